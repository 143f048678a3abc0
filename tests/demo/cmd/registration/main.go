// Command registration plays both ways by which an operator gets admitted, from an empty folder: a certificate from the
// TrustCenter and the registration in the TI-Föderation. It runs the product's own program, process by process; TrustCenter,
// Federation Master and the internet between them are simulated (server/tisim).
//
//	registration -out out/demo-registration
//
// The folder then holds all files, the page with the fingerprint as a picture, and index.html with the whole story.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"ktradv/server/tisim/fedmaster"
	"ktradv/server/tisim/trustcenter"
)

func main() {
	out := flag.String("out", "out/demo-registration", "`folder` for the files; it is emptied first")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *out, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "registration:", err)
		os.Exit(1)
	}
}

// passphrase of the demonstration's keys.
const passphrase = "demo passphrase, not secret"

// scene is one command and what it said.
type scene struct {
	Title, Command, Output, Picture string
}

// play is the demonstration while it runs.
type play struct {
	ctx     context.Context
	out     string // absolute
	program string
	env     []string // of the program
	say     io.Writer
	scenes  []scene
}

func run(ctx context.Context, out string, say io.Writer) error {
	out, err := filepath.Abs(out)
	if err != nil {
		return err
	}
	if err := empty(out); err != nil {
		return err
	}
	p := &play{ctx: ctx, out: out, program: filepath.Join(out, "bin", "adv-server"), env: os.Environ(), say: say}
	build := exec.CommandContext(ctx, "go", "build", "-o", p.program, "ktradv/server/cmd/adv-server")
	if b, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build adv-server: %w\n%s", err, b)
	}
	if err := p.certificate(); err != nil {
		return fmt.Errorf("TrustCenter: %w", err)
	}
	if err := p.federation(); err != nil {
		return fmt.Errorf("federation: %w", err)
	}
	if err := p.page(); err != nil {
		return err
	}
	fmt.Fprintf(say, "\nthe whole story with the picture: %s\n", filepath.Join(out, "index.html"))
	return nil
}

// mark is the file by which a folder of an earlier demonstration is known.
const mark = ".demo-registration"

// empty makes an empty folder. What is there is removed only where an earlier demonstration made it.
func empty(out string) error {
	there, err := os.ReadDir(out)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := os.Lstat(filepath.Join(out, mark)); err != nil && len(there) > 0 {
		return fmt.Errorf("%s holds something else than a demonstration: name another folder", out)
	}
	return errors.Join(os.RemoveAll(out), os.MkdirAll(out, 0o700), os.WriteFile(filepath.Join(out, mark), nil, 0o600))
}

// start prepares the program in a folder, with the passphrase on descriptor 3.
func (p *play) start(dir string, args ...string) (*exec.Cmd, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	if _, err := io.WriteString(w, passphrase+"\n"); err != nil {
		return nil, err
	}
	w.Close()
	cmd := exec.CommandContext(p.ctx, p.program, args...)
	cmd.Dir, cmd.Env, cmd.ExtraFiles = dir, p.env, []*os.File{r}
	return cmd, nil
}

// do runs a command and shows it; status is what it has to end with.
func (p *play) do(title string, status int, dir string, args ...string) (string, error) {
	cmd, err := p.start(dir, append([]string{args[0], args[1], "-passphrase-fd", "3"}, args[2:]...)...)
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	cmd.Stdout, cmd.Stderr = &b, &b
	err = cmd.Run()
	cmd.ExtraFiles[0].Close()
	if got := cmd.ProcessState.ExitCode(); got != status {
		return "", fmt.Errorf("adv-server %s: status %d, not %d (%v)\n%s", strings.Join(args, " "), got, status, err, &b)
	}
	text := strings.ReplaceAll(b.String(), p.out+string(filepath.Separator), "")
	p.tell(title, "adv-server "+strings.Join(args, " "), text)
	return b.String(), nil
}

// tell shows something that happened.
func (p *play) tell(title, command, output string) {
	p.scenes = append(p.scenes, scene{Title: title, Command: command, Output: output})
	fmt.Fprintf(p.say, "\n== %s\n", title)
	if command != "" {
		fmt.Fprintf(p.say, "$ %s\n", command)
	}
	fmt.Fprint(p.say, output)
}

// certificate plays the way to the TrustCenter's certificate.
func (p *play) certificate() error {
	dir := filepath.Join(p.out, "trustcenter")
	hidden := filepath.Join(p.out, "simulated-trustcenter")
	if err := errors.Join(os.Mkdir(dir, 0o700), os.Mkdir(hidden, 0o700)); err != nil {
		return err
	}
	center, err := trustcenter.New(hidden, time.Now)
	if err != nil {
		return err
	}
	const tool = "trustcenter"
	sheet := []string{tool, "init", "-ik", "590326822", "-organisation", "Müller & Söhne Software GmbH", "-given-name", "Erika", "-surname", "Groß",
		"-email", "erika.gross@software.example", "-contract-until", "open"}
	mail := func(name string) (string, error) {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return "", err
		}
		file, answer, err := center.Receive(b)
		if err != nil || answer == nil {
			return "", err
		}
		return file, os.WriteFile(filepath.Join(dir, file), answer, 0o600)
	}
	steps := []func() error{
		func() error { return p.only("Umlauts are refused before a key exists", 1, dir, sheet...) },
		func() error { return p.only("and written as one confirms", 0, dir, append(sheet, "-transliterate")...) },
	}
	for _, n := range []string{"1", "2", "3", "4", "5"} {
		steps = append(steps, func() error { return p.quiet(dir, tool, "done", n) })
	}
	steps = append(steps,
		func() error { return p.only("Where am I, and whose turn is it?", 0, dir, tool, "status") },
		func() error { return p.only("Key and request", 0, dir, tool, "request") },
		func() error {
			return p.judge("openssl verifies the request", dir, "openssl", "req", "-inform", "DER", "-in", "59032682.p10", "-verify", "-noout", "-subject")
		},
		func() error { return p.only("A draft for the mail program", 0, dir, tool, "mail", "request") },
		func() error {
			if _, err := mail("request.eml"); err != nil {
				return err
			}
			p.tell("The TrustCenter's machine takes the request", "", "openssl read it: subject, key, signature as agreed\n")
			return nil
		},
		func() error { return p.only("The page to sign and upload", 0, dir, tool, "fingerprint") },
		func() error { return p.picture(dir, "59032682-fingerprint.pdf") },
		func() error {
			b, err := os.ReadFile(filepath.Join(dir, "59032682-fingerprint.pdf"))
			if err != nil {
				return err
			}
			if err := center.Apply("590326822", b, center.TOTP(time.Now())); err != nil {
				return err
			}
			p.tell("The application in the portal", "", "second factor right, the fingerprint on the page is that of the request: the certificate is issued\n")
			return p.quiet(dir, tool, "done", "8")
		},
		func() error { return p.only("Ask for the certificate", 0, dir, tool, "mail", "certificate") },
		func() error { _, err := mail("certificate.eml"); return err },
		func() error {
			return p.judge("openssl reads the answer", dir, "openssl", "pkcs7", "-in", "59032682.p7c", "-print_certs", "-noout")
		},
		func() error {
			return p.only("Check the answer and take it over", 0, dir, tool, "import", "59032682.p7c")
		},
		func() error { return p.quiet(dir, tool, "mail", "directory") },
		func() error { _, err := mail("directory.eml"); return err },
		func() error {
			return p.only("The keys of the receiving offices", 0, dir, tool, "directory", "annahme-rsa4096.key")
		},
		func() error { return p.only("All eleven steps are done", 0, dir, tool, "status") },
	)
	return inTurn(steps)
}

// federation plays the registration at the Federation Master.
func (p *play) federation() error {
	dir := filepath.Join(p.out, "federation")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	const tool, service, master = "federation", "https://adv.kasse.example", "https://app-test.federationmaster.de"
	world, err := newInternet(filepath.Join(p.out, "simulated-internet"))
	if err != nil {
		return err
	}
	defer world.Close()
	p.env = append(p.env, world.env()...)
	fm, err := fedmaster.New("TU", master, world, time.Now)
	if err != nil {
		return err
	}
	world.serve("app-test.federationmaster.de", fm)
	office := func(title string) error {
		b, err := os.ReadFile(filepath.Join(dir, "FDkasse0001TU.xml"))
		if err != nil {
			return err
		}
		if err := fm.Mail("FDkasse0001TU.xml", b); err != nil {
			return err
		}
		p.tell(title, "", "accepted\n")
		return nil
	}
	// configure edits the configuration as the operator would.
	configure := func(old, new string) error {
		path := filepath.Join(dir, "federation.json")
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(path, bytes.ReplaceAll(b, []byte(old), []byte(new)), 0o600)
	}
	var server *exec.Cmd
	stop := func() {
		if server != nil {
			_ = server.Process.Signal(os.Interrupt) // it may have ended
			_ = server.Wait()
			server = nil
		}
	}
	defer stop()
	publish := func() (err error) {
		stop()
		if server, err = p.start(dir, tool, "entity-statement", "-passphrase-fd", "3", "-serve", "127.0.0.1:0"); err != nil {
			return err
		}
		pipe, err := server.StdoutPipe()
		if err != nil {
			return err
		}
		if err := server.Start(); err != nil {
			return err
		}
		server.ExtraFiles[0].Close()
		line := make([]byte, 256)
		n, err := pipe.Read(line)
		if err != nil {
			return fmt.Errorf("the service does not start: %w", err)
		}
		words := strings.Fields(string(line[:n]))
		world.forward("adv.kasse.example", words[len(words)-1])
		p.tell("The Entity Statement is served", "adv-server federation entity-statement -serve 127.0.0.1:0", string(line[:n]))
		return nil
	}
	return inTurn([]func() error{
		func() error {
			return p.only("Configuration, keys and TLS client certificate", 0, dir, tool, "init", "-environment", "TU", "-service", service, "-organisation", "Test Kasse", "-name", "AdV Test Kasse",
				"-email", "adv@kasse.example", "-member-id", "FDkasse0001TU", "-group", "ORG-1234:BT-5678", "-redirect", service+"/federation/callback", "-scope", "urn:telematik:versicherter")
		},
		func() error {
			return os.WriteFile(filepath.Join(dir, "federation-master.jwks"), fm.PublicKeys(), 0o600)
		},
		publish,
		func() error { return p.only("The live statement is judged", 0, dir, tool, "check", service) },
		func() error { return p.only("The form is made of the live statement", 0, dir, tool, "register") },
		func() error {
			if _, err := exec.LookPath("xmllint"); err != nil {
				p.tell("xmllint is not installed: the form is not looked at by another program", "", "")
				return nil
			}
			return p.judge("xmllint reads the form", dir, "xmllint", "--encode", "UTF-8", "FDkasse0001TU.xml")
		},
		func() error { return p.only("It is sent by mail, and that is noted", 0, dir, tool, "sent") },
		func() error { return office("The office takes the form") },
		func() error {
			return p.only("What was registered, what is live and what the Federation Master says agree", 0, dir, tool, "watch")
		},
		func() error {
			b, err := os.ReadFile(filepath.Join(dir, "FDkasse0001TU.xml"))
			if err != nil {
				return err
			}
			wrong := strings.NewReplacer("AdV Test Kasse", "AdV (Test) Kasse", "<betriebsumgebung>TU", "<betriebsumgebung>RU").Replace(string(b))
			if err := os.WriteFile(filepath.Join(dir, "by-hand.xml"), []byte(wrong), 0o600); err != nil {
				return err
			}
			return p.only("A form written by hand is judged field by field", 1, dir, tool, "check", "by-hand.xml")
		},
		func() error { return configure("/federation/callback", "/federation/return") },
		func() error {
			return p.only("A change is announced before it shows: the next statement, not yet published", 0, dir, tool, "entity-statement", "-out", "next.jws")
		},
		func() error {
			return p.only("The change, with what differs", 0, dir, tool, "change", "-force", "-statement", "next.jws")
		},
		func() error { return p.only("It is sent", 0, dir, tool, "sent") },
		func() error { return office("The office takes the change ahead of it") },
		publish,
		func() error { return p.only("All agree again", 0, dir, tool, "watch") },
		func() error { return configure("/federation/return", "/federation/elsewhere") },
		publish,
		func() error {
			return p.only("Somebody changed the service and told nobody: the watch sees the drift", 1, dir, tool, "watch")
		},
		func() error { return configure("/federation/elsewhere", "/federation/return") },
		publish,
		func() error { fm.SetFault(fedmaster.ForeignKey); return nil },
		func() error {
			return p.only("The Federation Master publishes a key that is not ours: the watch sees that, too", 1, dir, tool, "watch")
		},
		func() error { fm.SetFault(fedmaster.None); return nil },
		func() error {
			return p.only("The service is taken out: the form", 0, dir, tool, "deregister", "-force")
		},
		func() error { return p.only("Sent", 0, dir, tool, "sent") },
		func() error { return office("The office takes the service out") },
	})
}

func inTurn(steps []func() error) error {
	for _, s := range steps {
		if err := s(); err != nil {
			return err
		}
	}
	return nil
}

// only runs a command for what it shows.
func (p *play) only(title string, status int, dir string, args ...string) error {
	_, err := p.do(title, status, dir, args...)
	return err
}

// judge lets another program look at what was made, and shows what it says.
func (p *play) judge(title, dir string, command ...string) error {
	cmd := exec.CommandContext(p.ctx, command[0], command[1:]...)
	cmd.Dir = dir
	b, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(command, " "), err, b)
	}
	p.tell(title, strings.Join(command, " "), string(b))
	return nil
}

// quiet runs a command that is not part of the story.
func (p *play) quiet(dir string, args ...string) error {
	cmd, err := p.start(dir, args...)
	if err != nil {
		return err
	}
	defer cmd.ExtraFiles[0].Close()
	if b, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("adv-server %s: %w\n%s", strings.Join(args, " "), err, b)
	}
	return nil
}

// picture makes a PNG of a PDF's only page and shows it with the scene before.
func (p *play) picture(dir, name string) error {
	base := strings.TrimSuffix(name, ".pdf")
	cmd := exec.CommandContext(p.ctx, "pdftoppm", "-r", "80", "-png", "-singlefile", name, base)
	cmd.Dir = dir
	if b, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("pdftoppm: %w\n%s", err, b)
	}
	rel, err := filepath.Rel(p.out, filepath.Join(dir, base+".png"))
	if err != nil {
		return err
	}
	p.scenes[len(p.scenes)-1].Picture = rel
	fmt.Fprintf(p.say, "the page as a picture: %s\n", filepath.Join(dir, base+".png"))
	return nil
}

var pageText = template.Must(template.New("page").Parse(`<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><title>Getting admitted</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:3rem auto;padding:0 1rem;color:#1b2733}h1{font-weight:600}
h2{font-size:1.1rem;margin:2.2rem 0 .5rem}pre{background:#f3f5f7;border-radius:6px;padding:.8rem 1rem;overflow-x:auto;font-size:.85rem;margin:0}
code{font-size:.85rem;color:#0a5a66}img{display:block;margin:1rem 0;border:1px solid #ccd3d9;max-width:100%}</style>
<h1>Getting admitted: TrustCenter and TI-Föderation</h1>
<p>Every command below was run by the demonstration; the other sides are simulated.</p>
{{range .}}<h2>{{.Title}}</h2>{{if .Command}}<p><code>{{.Command}}</code></p>{{end}}{{if .Output}}<pre>{{.Output}}</pre>{{end}}{{if .Picture}}<img src="{{.Picture}}" alt="The page with the fingerprint">{{end}}
{{end}}</html>
`))

// page writes the story as a page.
func (p *play) page() error {
	var b bytes.Buffer
	if err := pageText.Execute(&b, p.scenes); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(p.out, "index.html"), b.Bytes(), 0o600)
}
