package federation

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// javaURI is what java.net.URI makes of a text: the registration office parses with it, so its grammar decides (RFC 2396
// with its deviations), and Go's net/url would judge a dozen cases differently.
type javaURI struct {
	scheme                string
	host                  string // "" is Java's null
	user                  bool   // user info is given
	port                  int    // -1: none
	path                  string
	query, fragment       string
	hasQuery, hasFragment bool
}

// Character classes of java.net.URI. A class with escaped also takes %XX and visible characters beyond ASCII.
type charClass struct {
	ascii   string
	escaped bool
}

const (
	lower    = "abcdefghijklmnopqrstuvwxyz"
	digits   = "0123456789"
	alpha    = lower + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	alphanum = alpha + digits
	unres    = alphanum + "_-!.~*'()"
)

var (
	classScheme   = charClass{alphanum + "+-.", false}
	classPath     = charClass{unres + ":@&=+$,;/", true}
	classURIC     = charClass{unres + ";/?:@&=+$,[]", true}
	classUser     = charClass{unres + ";:&=+$,", true}
	classServer   = charClass{unres + ";:&=+$,.@[]", true}
	classServerPc = charClass{unres + ";:&=+$,.@[]%", true}
	classRegName  = charClass{unres + "$,;:@&=+", true}
	classAlphanum = charClass{alphanum, false}
	classLabel    = charClass{alphanum + "-", false}
	classDigits   = charClass{digits, false}
)

// span returns the length of the longest prefix of s in the class; an error where Java throws (a malformed escape).
func (c charClass) span(s string) (int, error) {
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r < utf8.RuneSelf && strings.IndexByte(c.ascii, s[i]) >= 0:
		case !c.escaped:
			return i, nil
		case r == '%':
			if len(s) < i+3 || !isHex(s[i+1]) || !isHex(s[i+2]) {
				return i, fmt.Errorf("malformed escape at %q", s[i:min(len(s), i+3)])
			}
			n = 3
		case r == utf8.RuneError || r <= 128 || unicode.In(r, unicode.Z) || unicode.IsControl(r):
			return i, nil
		}
		i += n
	}
	return len(s), nil
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

// all is an error unless the whole of s is in the class.
func (c charClass) all(s, what string) error {
	n, err := c.span(s)
	if err == nil && n < len(s) {
		r, _ := utf8.DecodeRuneInString(s[n:])
		err = fmt.Errorf("character %q is not allowed in the %s", r, what)
	}
	return err
}

// parseJavaURI parses as new java.net.URI(s) does.
func parseJavaURI(s string) (u javaURI, err error) {
	u.port = -1
	rest := s
	if i := strings.IndexAny(s, ":/?#"); i >= 0 && s[i] == ':' {
		if i == 0 {
			return u, fmt.Errorf("the scheme is missing before %q", ":")
		}
		if strings.IndexByte(alpha, s[0]) < 0 {
			return u, fmt.Errorf("character %q is not allowed at the start of the scheme", s[0])
		}
		if err := classScheme.all(s[:i], "scheme"); err != nil {
			return u, err
		}
		u.scheme, rest = s[:i], s[i+1:]
		if rest == "" {
			return u, fmt.Errorf("nothing follows %q", s)
		}
		if rest[0] != '/' { // opaque
			rest, u.fragment, u.hasFragment = strings.Cut(rest, "#")
			if err := classURIC.all(rest, "part after the scheme"); err != nil {
				return u, err
			}
			return u, classURIC.all(u.fragment, "fragment")
		}
	}
	rest, u.fragment, u.hasFragment = strings.Cut(rest, "#")
	rest, u.query, u.hasQuery = strings.Cut(rest, "?")
	if after, ok := strings.CutPrefix(rest, "//"); ok {
		end := strings.IndexByte(after, '/')
		if end < 0 {
			end = len(after)
		}
		if end > 0 {
			if err := u.authority(after[:end]); err != nil {
				return u, err
			}
		} else if after == "" && !u.hasQuery && !u.hasFragment {
			return u, fmt.Errorf("the host is missing after %q", "//")
		}
		rest = after[end:]
	}
	u.path = rest
	if err := classPath.all(u.path, "path"); err != nil {
		return u, err
	}
	if err := classURIC.all(u.query, "query"); err != nil {
		return u, err
	}
	return u, classURIC.all(u.fragment, "fragment")
}

// authority parses host and port. What is no server but could be a registry's name leaves the host empty, as Java does.
func (u *javaURI) authority(s string) error {
	class := classServer
	if strings.Contains(s, "]") {
		class = classServerPc
	}
	n, err := class.span(s)
	if err != nil {
		return err
	}
	reg, regErr := classRegName.span(s)
	if n == len(s) {
		if err = u.server(s); err == nil {
			return nil
		}
		u.host, u.port, u.user = "", -1, false
	}
	if regErr == nil && reg == len(s) {
		return nil
	}
	if err == nil {
		err = classRegName.all(s, "host")
	}
	return err
}

// server parses [userinfo@]host[:port].
func (u *javaURI) server(s string) error {
	if i := strings.IndexByte(s, '@'); i >= 0 {
		if err := classUser.all(s[:i], "user info"); err != nil {
			return err
		}
		u.user, s = true, s[i+1:]
	}
	var host string
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return fmt.Errorf("%q is missing after the IPv6 address", "]")
		}
		addr, err := netip.ParseAddr(s[1:end])
		if err != nil || !addr.Is6() {
			return fmt.Errorf("%q is no IPv6 address", s[1:end])
		}
		host = s[:end+1]
	} else if n := ipv4Prefix(s); n > 0 {
		host = s[:n]
	} else {
		n, err := hostPrefix(s)
		if err != nil {
			return err
		}
		host = s[:n]
	}
	if rest := s[len(host):]; rest != "" {
		if rest[0] != ':' {
			return fmt.Errorf("%q follows the host", rest)
		}
		if rest = rest[1:]; rest != "" {
			if err := classDigits.all(rest, "port"); err != nil {
				return err
			}
			p, err := strconv.ParseInt(rest, 10, 32)
			if err != nil {
				return fmt.Errorf("port %s is too big", rest)
			}
			u.port = int(p)
		}
	}
	u.host = host
	return nil
}

// ipv4Prefix returns the length of an IPv4 address that s is, or is up to a colon; 0 where it is none.
func ipv4Prefix(s string) int {
	end, _, _ := strings.Cut(s, ":")
	parts := strings.Split(end, ".")
	if len(parts) != 4 {
		return 0
	}
	for _, p := range parts {
		if v, err := strconv.Atoi(p); err != nil || v > 255 || classDigits.all(p, "") != nil {
			return 0
		}
	}
	return len(end)
}

// hostPrefix returns the length of the host name at the start of s: labels of letters, digits and inner hyphens, the last
// one starting with a letter.
func hostPrefix(s string) (int, error) {
	p, last, labels := 0, 0, 0
	for p < len(s) {
		n, _ := classAlphanum.span(s[p:])
		if n == 0 {
			break
		}
		last = p
		labels++
		n, _ = classLabel.span(s[p:])
		p += n
		if s[p-1] == '-' {
			return 0, fmt.Errorf("a label of the host ends with %q", "-")
		}
		if p == len(s) || s[p] != '.' {
			break
		}
		p++
	}
	switch {
	case p < len(s) && s[p] != ':':
		r, _ := utf8.DecodeRuneInString(s[p:])
		return 0, fmt.Errorf("character %q is not allowed in the host", r)
	case labels == 0:
		return 0, fmt.Errorf("the host is missing")
	case last > 0 && strings.IndexByte(alpha, s[last]) < 0:
		return 0, fmt.Errorf("the last label of the host does not start with a letter")
	}
	return p, nil
}

// WellKnown is the path under which an Entity Statement is found (OpenID Federation, A_22643).
const WellKnown = "/.well-known/openid-federation"

// uriRule is a rule of the registration office about the service's address, in the order in which it is applied.
type uriRule struct {
	Rule      string // the word of the oracle table
	Code      Code
	Broken    func(u javaURI) bool
	What, Fix string
}

// badPort says whether a port is named that does not exist.
func badPort(u javaURI) bool { return u.port == 0 || u.port > 65535 }

// uriRules are the criteria of the registration page for fachdiensturi (FED-14, FED-15).
var uriRules = []uriRule{
	{"scheme", "REG-URI-SCHEMA", func(u javaURI) bool { return u.scheme != "https" },
		"the address does not begin with https (lower case)", "write https:// in front of the host"},
	{"host", "REG-URI-HOST", func(u javaURI) bool { return u.host == "" },
		"java.net.URI finds no host", "use letters, digits and inner hyphens, the last label beginning with a letter; write umlauts as xn-- (A-label)"},
	{"query", "REG-URI-QUERY", func(u javaURI) bool { return u.hasQuery },
		"a query is given, if only an empty one", "cut the address before the question mark"},
	{"fragment", "REG-URI-FRAGMENT", func(u javaURI) bool { return u.hasFragment },
		"a fragment is given, if only an empty one", "cut the address before the #"},
	{"port", "REG-URI-PORT", badPort,
		"the port is not within 1 to 65535", "leave the port out or name the right one"},
	{"wellknown", "REG-URI-WELLKNOWN", func(u javaURI) bool { return strings.Contains(u.path, WellKnown) },
		"the address contains " + WellKnown, "leave the path " + WellKnown + " out: the office appends it"},
}

// checkServiceURI judges the address of a service as the registration office does. rule is the word for the first broken
// rule, "" where there is none; the findings name every broken one.
func checkServiceURI(s string) (rule string, found []Finding) {
	u, err := parseJavaURI(s)
	if err != nil {
		f := Finding{Code: "REG-URI-FORM", Severity: Error, What: "java.net.URI cannot parse the address: " + err.Error(), Fix: "write it as https://host[:port][/path]"}
		if s != strings.TrimSpace(s) {
			f.Fix = "remove the white space at the beginning or the end"
		}
		return "parse", []Finding{f}
	}
	for _, r := range uriRules {
		if !r.Broken(u) {
			continue
		}
		if rule == "" {
			rule = r.Rule
		}
		found = append(found, Finding{Code: r.Code, Severity: Error, What: r.What, Fix: r.Fix})
		if r.Rule == "scheme" && s == "" {
			break
		}
	}
	if rule == "" {
		found = append(found, oddHost(u)...)
	}
	return rule, found
}

// oddHost warns of hosts that the rules allow and that can hardly be meant.
func oddHost(u javaURI) []Finding {
	warn := func(what string) []Finding {
		return []Finding{{Code: "REG-URI-UNGEWOEHNLICH", Severity: Warning, What: what, Fix: "name the service by a host name that the internet resolves"}}
	}
	_, ipErr := netip.ParseAddr(strings.Trim(u.host, "[]"))
	switch {
	case u.user:
		return warn("the address contains user info")
	case ipErr == nil:
		return warn("the host is an IP address")
	case strings.HasSuffix(u.host, "."):
		return warn("the host ends with a dot")
	case u.host == "localhost" || !strings.Contains(u.host, "."):
		return warn("the host is known in one network only")
	}
	return nil
}
