// Package pcsc implements the reader interface (ktradv/hw/reader) over PC/SC: pcscd, through libpcsclite and
// github.com/ebfe/scard. It is the only package of the product that uses cgo for a reader, and it is empty unless the
// build tag pcsc is set.
//
// [Open] returns a [Reader] that lives as long as the process wants it. One goroutine watches the reader and the slot;
// every call into the C library runs in a goroutine of its own under a deadline. A call that never returns is left
// behind, the caller gets reader.ErrHung, and everything waiting on the reader learns of it; when the daemon was replaced
// the Reader finds it by itself. The environment variable PCSCLITE_CSOCK_NAME has to be set before the first call: the C
// library reads it once.
package pcsc
