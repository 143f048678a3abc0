package gallery

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"html"
	"image/png"
	"io"

	"ktradv/kiosk/design"
	"ktradv/kiosk/ui"
)

// WriteHTML writes one page with the pictures of every sample in every variant on the panel, and returns what breaks the
// rules.
func WriteHTML(w io.Writer, tokens *design.Tokens, panel ui.Panel) (faults []string, err error) {
	d, err := NewDrawer(tokens)
	if err != nil {
		return nil, err
	}
	out := bufio.NewWriter(w)
	fmt.Fprintf(out, `<!doctype html><html lang="en"><meta charset="utf-8"><title>Screens %dx%d</title>
<style>body{font-family:sans-serif;margin:24px;background:#ddd}h2{margin:40px 0 8px}
.g{display:grid;grid-template-columns:repeat(auto-fill,minmax(400px,1fr));gap:16px}figure{margin:0}img{width:100%%;display:block}
figcaption{font-size:13px;padding:4px 0}.f{color:#a00}nav a{margin-right:12px}</style><h1>Screens %[1]dx%[2]d, %.1f inch</h1><nav>`,
		panel.Pixels.X, panel.Pixels.Y, panel.Diagonal)
	for _, s := range Samples() {
		fmt.Fprintf(out, `<a href="#%s">%[1]s</a>`, html.EscapeString(s.Name))
	}
	fmt.Fprint(out, "</nav>")
	enc := png.Encoder{CompressionLevel: png.DefaultCompression}
	for _, s := range Samples() {
		fmt.Fprintf(out, `<h2 id="%s">%[1]s</h2><div class="g">`, html.EscapeString(s.Name))
		for _, v := range Variants(panel) {
			img, elements := d.Draw(s, v)
			var buf bytes.Buffer
			if err := enc.Encode(&buf, img); err != nil {
				return nil, fmt.Errorf("picture %s %s: %w", s.Name, v, err)
			}
			fmt.Fprintf(out, `<figure><img loading="lazy" alt="%s" src="data:image/png;base64,%s"><figcaption>%s</figcaption>`,
				html.EscapeString(s.Name), base64.StdEncoding.EncodeToString(buf.Bytes()), html.EscapeString(v.String()))
			for _, f := range append(Check(v, elements), Measure(img, elements)...) {
				faults = append(faults, fmt.Sprintf("%s %s: %s", s.Name, v, f))
				fmt.Fprintf(out, `<div class="f">%s</div>`, html.EscapeString(f))
			}
			fmt.Fprint(out, "</figure>")
		}
		fmt.Fprint(out, "</div>")
	}
	fmt.Fprint(out, "</html>\n")
	return faults, out.Flush()
}
