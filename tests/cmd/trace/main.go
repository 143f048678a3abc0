// Command trace puts the requirement catalogue and the marks of the last test run together: a table on standard
// output and a JSON list for machines.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"

	"ktradv/tests/catalogue"
)

func main() {
	raw := flag.String("records", "out/trace", "folder with the records of a test run")
	out := flag.String("o", "out/trace.json", "file for the JSON list")
	quiet := flag.Bool("summary", false, "print the counts only, not every requirement")
	flag.Parse()
	if err := run(*raw, *out, *quiet); err != nil {
		fmt.Fprintln(os.Stderr, "trace:", err)
		os.Exit(1)
	}
}

func run(raw, out string, quiet bool) error {
	records, err := catalogue.ReadRecords(raw)
	if err != nil {
		return err
	}
	if len(records) == 0 {
		return fmt.Errorf("no records in %s: run `make test` first", raw)
	}
	rows, err := catalogue.Trace(records)
	if err != nil {
		return err
	}
	b, err := json.MarshalIndent(rows, "", " ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(out, append(b, '\n'), 0o644); err != nil {
		return err
	}
	count := map[string]int{}
	for _, r := range rows {
		count[r.Status]++
		if !quiet {
			fmt.Printf("%-14s %-10s %-11s %s\n", r.ID, r.Component, r.Status, strings.Join(r.By, ", "))
		}
	}
	fmt.Printf("requirements: %d covered by tests, %d by documents, %d open, %d in all (%s)\n",
		count[catalogue.Covered], count[catalogue.DocumentBy], count[catalogue.Open], len(rows), out)
	return nil
}
