package record

import "io"

// handler takes the elements of a FHIR resource. XML and JSON give the same ones: a resource is an element with the name
// of its type, a JSON array is its members one after the other, and the value of a primitive comes after its start.
//
// Slices are parts of the input, or valid until the next call.
type handler interface {
	// start begins an element at a place of the input. When it returns false, nothing of the element is reported but its end.
	start(name []byte, offset int) bool
	// value gives the value of the element that began last.
	value(v []byte)
	// url gives the url of the extension that began last and did not end yet.
	url(v []byte)
	// end ends the innermost element. offset is the place after it.
	end(offset int)
}

// streamHandler is a handler that takes the value of an element as a stream when it is too long to be given as a whole.
type streamHandler interface {
	handler
	// wants reports whether the value of the element of that name, which would begin now, is wanted.
	wants(name []byte) bool
	// stream takes such a value, before start and end of its element; value is not called for it.
	stream(value io.Reader) error
}
