#!/bin/sh
# Regenerates verify.pb.go and verify_grpc.pb.go from verify.proto. Needs protoc 3.21 (Debian: protobuf-compiler) and Go;
# the two plugins are installed at the versions below into a temporary folder.
set -eu
cd "$(dirname "$0")"
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
GOBIN=$bin go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
GOBIN=$bin go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2
PATH="$bin:$PATH" protoc --go_out=. --go_opt=paths=source_relative \
	--go-grpc_out=. --go-grpc_opt=paths=source_relative verify.proto
