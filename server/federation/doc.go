// Package federation gets a service registered at the Federation Master of the TI-Föderation and keeps it registered: the
// Entity Statement of the service, the registration XML, and the comparison of the two with what the Federation Master
// publishes.
//
// The rules are those of the registration office's page "Registrierung eines Fachdienstes" (catalogue FED-01..29), of
// OpenID Federation and of gemSpec_IDP_FD as far as they are public. What stands in no public text is decided in rules.go,
// one table, and marked there.
//
//	ParseXML, ParseStatement    read what others wrote: bounded, every violation with its line and what to do
//	CheckXML, CheckStatement    the rules of each of the two
//	Inspect                     gets a live statement with the key set that it points to, and judges both
//	Compare                     every disagreement between them
//	Build, WriteXML             write both right the first time
//	Keys                        the signing keys and their rotation ahead of time
//	Service                     serves /.well-known/openid-federation
//	Records                     the forms that were written, and which of them were sent
//	Watch                       compares registered copy, live statement and what the Federation Master says
package federation
