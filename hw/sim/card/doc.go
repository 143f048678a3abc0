// Package card is a simulated smart card with the operating system of the
// German health cards (gemSpec_COS, generations G2 and G2.1): raw command
// bytes in, raw response bytes out.
//
// A Card is made from a System: the object system of one card with its
// folders, files, passwords, keys and access rules. Nothing in the commands
// knows what an eGK is. What a command may do is decided for each command
// anew from the access rule of the object, the interface, the life-cycle
// state, the security environment and the security state of the basic channel
// (passwords, role authentication, secure messaging).
//
// The package shares curve arithmetic and hashes with the product and nothing
// else. Its APDU parser, secure messaging, CV certificate parser, PIN blocks
// and file codecs are its own, so that a mistake in the host's code meets a
// card that does not make the same one.
//
// What a card of this package cannot do, and answers with 6A81
// (UnsupportedFunction) after the access rule has been checked: PACE and the
// mutual authentication with symmetric keys (their session keys can be put in
// by a test, see Card.InjectSession), deciphering, and LOAD APPLICATION.
// Facts about commands and status words come from gemSpec_COS as collected in
// the project's eGK reference; where that leaves something open the choice is
// written at the code that makes it.
package card
