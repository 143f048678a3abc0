package federation

import "ktradv/server/internal/finding"

// What a check finds. The part of a code before the first hyphen tells what is wrong: REG the registration XML, ES the Entity
// Statement or its agreement with the XML, FM what the Federation Master publishes.
type (
	Finding  = finding.Finding
	Findings = finding.List
	Code     = finding.Code
	Severity = finding.Severity
)

// The severities.
const (
	Info    = finding.Info
	Warning = finding.Warning
	Error   = finding.Error
)
