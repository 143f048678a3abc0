// Package catalogue is the list of requirements that the product answers to, one row each, taken from the
// specification and the documents it refers to, and the list of requirements that documents answer.
//
// Tests mark what they prove with internal/req; [Trace] puts catalogue, marks and documents together.
package catalogue

import (
	"bytes"
	_ "embed"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"

	"ktradv/internal/req"
)

//go:embed requirements.csv
var requirementsCSV []byte

//go:embed documented.csv
var documentedCSV []byte

// Requirement is one row of the catalogue. The columns are explained in README.md beside the file.
type Requirement struct {
	ID, Source, Level, Component, Title, Summary, VerifiableBy string
}

// Load returns the catalogue in its order.
func Load() ([]Requirement, error) {
	rows, err := readCSV(requirementsCSV, "id,source,level,component,title,summary_en,verifiable_by", 7)
	if err != nil {
		return nil, fmt.Errorf("requirements.csv: %w", err)
	}
	out := make([]Requirement, 0, len(rows))
	seen := map[string]bool{}
	for _, r := range rows {
		if seen[r[0]] {
			return nil, fmt.Errorf("requirements.csv: id %s twice", r[0])
		}
		seen[r[0]] = true
		out = append(out, Requirement{r[0], r[1], r[2], r[3], r[4], r[5], r[6]})
	}
	return out, nil
}

// Documented returns, for each requirement answered by a document, the documents (paths from the project's root).
func Documented() (map[string][]string, error) {
	rows, err := readCSV(documentedCSV, "id,document", 2)
	if err != nil {
		return nil, fmt.Errorf("documented.csv: %w", err)
	}
	out := map[string][]string{}
	for _, r := range rows {
		out[r[0]] = append(out[r[0]], r[1])
	}
	return out, nil
}

func readCSV(b []byte, header string, fields int) ([][]string, error) {
	r := csv.NewReader(bytes.NewReader(b))
	r.FieldsPerRecord = fields
	rows, err := r.ReadAll()
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, io.ErrUnexpectedEOF
	}
	var got bytes.Buffer
	w := csv.NewWriter(&got)
	if err := w.Write(rows[0]); err != nil {
		return nil, err
	}
	w.Flush()
	if got.String() != header+"\n" {
		return nil, fmt.Errorf("header %q; want %q", got.String(), header)
	}
	return rows[1:], nil
}

// Status of a requirement in the trace.
const (
	Covered    = "covered"    // at least one test that passed proves it
	DocumentBy = "documented" // a document answers it
	Open       = "open"
)

// Row is one entry of out/trace.json.
type Row struct {
	ID        string   `json:"id"`
	Source    string   `json:"source"`
	Component string   `json:"component"`
	Status    string   `json:"status"`
	By        []string `json:"by"`
}

// Trace puts the catalogue and the records of a test run together. It fails when a record names an id that the
// catalogue does not know, or when a test that claims a requirement failed.
func Trace(records []req.Record) ([]Row, error) {
	reqs, err := Load()
	if err != nil {
		return nil, err
	}
	docs, err := Documented()
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	for _, r := range reqs {
		known[r.ID] = true
	}
	by := map[string]map[string]bool{}
	for _, rec := range records {
		if !known[rec.ID] {
			return nil, fmt.Errorf("%s (%s) claims %s, which is not in the catalogue", rec.Test, rec.Package, rec.ID)
		}
		switch rec.Result {
		case "pass":
			if by[rec.ID] == nil {
				by[rec.ID] = map[string]bool{}
			}
			by[rec.ID][rec.Package+"."+rec.Test] = true
		case "fail":
			return nil, fmt.Errorf("%s (%s) claims %s and failed", rec.Test, rec.Package, rec.ID)
		}
	}
	for id := range docs {
		if !known[id] {
			return nil, fmt.Errorf("documented.csv names %s, which is not in the catalogue", id)
		}
	}
	rows := make([]Row, 0, len(reqs))
	for _, r := range reqs {
		row := Row{ID: r.ID, Source: r.Source, Component: r.Component, Status: Open, By: []string{}}
		switch {
		case len(by[r.ID]) > 0:
			row.Status = Covered
			for t := range by[r.ID] {
				row.By = append(row.By, t)
			}
			sort.Strings(row.By)
		case len(docs[r.ID]) > 0:
			row.Status, row.By = DocumentBy, docs[r.ID]
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// ReadRecords reads every trace file (*.jsonl) that a test run left in dir.
func ReadRecords(dir string) ([]req.Record, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if err != nil {
		return nil, fmt.Errorf("list trace files: %w", err)
	}
	var out []req.Record
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read trace file: %w", err)
		}
		for dec := json.NewDecoder(bytes.NewReader(b)); dec.More(); {
			var r req.Record
			if err := dec.Decode(&r); err != nil {
				return nil, fmt.Errorf("read trace file %s: %w", name, err)
			}
			out = append(out, r)
		}
	}
	return out, nil
}
