// Package verifyapi is the wire contract of the service that checks E-Rezept billing records, defined in verify.proto.
//
// To change the contract edit verify.proto and run `go generate ./server/verify/verifyapi`; the generated code is committed,
// so that a build needs no protoc.
package verifyapi

//go:generate ./generate.sh
