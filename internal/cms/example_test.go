package cms_test

import (
	"fmt"
	"log"
	"os"

	"ktradv/internal/brainpool"
	"ktradv/internal/cms"
)

// Checks every signature of a message. Tables of keys that come back are kept.
func ExampleSignedData_VerifyAll() {
	data, err := os.ReadFile("record.p7s")
	if err != nil {
		log.Fatal(err)
	}
	sd, err := cms.Parse(data)
	if err != nil {
		log.Fatal(err)
	}
	var tables brainpool.TableCache
	for _, r := range sd.VerifyAll(nil, &tables) {
		fmt.Println("signed", r.Signer.SigningTime, "core:", r.Result.Core())
		for step, f := range r.Result {
			fmt.Println(cms.Step(step), f.Verdict, f.Reason)
		}
	}
}

// Reads a message of any size: its content goes to a file, and counts only when the signature is right.
func ExampleParseStream() {
	content, err := os.CreateTemp("", "content-*")
	if err != nil {
		log.Fatal(err)
	}
	defer content.Close()
	sd, err := cms.ParseStream(os.Stdin, content, cms.StreamOptions{MaxContent: 4 << 30})
	if err != nil {
		log.Fatal(err)
	}
	for _, r := range sd.VerifyAll(nil, nil) {
		fmt.Println(sd.ContentLength, "octets, core:", r.Result.Core())
	}
}
