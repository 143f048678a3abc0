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
//	Compare                     every disagreement between them
//	Build, WriteXML             write both right the first time
//	Keys                        the signing keys and their rotation ahead of time
//	Service                     serves /.well-known/openid-federation
//	Watch                       compares registered copy, live statement and what the Federation Master says
package federation
