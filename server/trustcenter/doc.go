// Package trustcenter gets a software maker a certificate for test procedures from a TrustCenter of the health data exchange
// (DKTIG, catalogue DKTIG-01..32): the data sheet is checked before a key exists, request and fingerprint are right the
// first time, the answer is checked before it is used, and the dates are remembered.
//
//	Sheet                      who applies, with which Institutionskennzeichen (IK), at which TrustCenter
//	CreateRequest, CheckRequest  the PKCS#10 with the exact subject and RSASSA-PSS
//	Fingerprint, WritePDF      the two hashes to compare, and the page to sign and upload
//	Mail                       the e-mails of the procedure as drafts; nothing is sent
//	Import                     the answer (.p7c), checked against request and key
//	ParseDirectory             the list of the receiving offices' keys
//	Steps                      where in the eleven steps one is
//
// What no public text says (layout of the page, encoding of the request, which bytes the TrustCenter hashes) is decided in
// rules.go.
package trustcenter
