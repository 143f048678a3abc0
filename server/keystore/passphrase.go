package keystore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"
)

// maxPassphrase bounds a passphrase in octets.
const maxPassphrase = 1024

// ErrNoTerminal is returned where nobody can be asked.
var ErrNoTerminal = errors.New("there is no terminal to ask for the passphrase: hand it over with --passphrase-fd")

// FromDescriptor returns a source that reads the passphrase from an inherited file descriptor, up to the first line end.
func FromDescriptor(fd uintptr) func(bool) ([]byte, error) {
	return func(bool) ([]byte, error) {
		f := os.NewFile(fd, "passphrase")
		if f == nil {
			return nil, fmt.Errorf("passphrase: no descriptor %d", fd)
		}
		defer f.Close()
		return readPassphrase(f)
	}
}

// readPassphrase reads one line, and nothing after it: whoever hands it over may keep the descriptor open.
func readPassphrase(r io.Reader) ([]byte, error) {
	line, one := make([]byte, 0, maxPassphrase+1), make([]byte, 1)
	for len(line) <= maxPassphrase {
		n, err := r.Read(one)
		if n == 1 && one[0] == '\n' || n == 0 && errors.Is(err, io.EOF) {
			break
		}
		if n == 0 && err != nil {
			return nil, fmt.Errorf("passphrase: %w", err)
		}
		line = append(line, one[:n]...)
	}
	line = bytes.TrimSuffix(line, []byte("\r"))
	if len(line) == 0 || len(line) > maxPassphrase {
		return nil, fmt.Errorf("passphrase: empty or longer than %d octets", maxPassphrase)
	}
	return line, nil
}

// FromTerminal returns a source that asks for something ("Passphrase of the private keys") at the terminal without showing what
// is typed, twice for a new key. It returns ErrInterrupted after Ctrl-C.
func FromTerminal(what string) func(bool) ([]byte, error) {
	return func(new bool) ([]byte, error) {
		tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
		if err != nil {
			return nil, ErrNoTerminal
		}
		defer tty.Close()
		ask := func(prompt string) ([]byte, error) { return readSilently(tty, prompt) }
		first, err := ask(what + ": ")
		if err != nil || !new {
			return first, err
		}
		second, err := ask("The same again: ")
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(first, second) {
			return nil, errors.New("the two passphrases differ: nothing was made, try again")
		}
		return first, nil
	}
}

// ErrInterrupted is returned where somebody ended the program at the prompt.
var ErrInterrupted = errors.New("interrupted at the prompt for the passphrase")

// readSilently asks for a line without showing what is typed. Ctrl-C and the signals that end programs end the prompt at once,
// also where the program catches them elsewhere, and leave the terminal as it was.
func readSilently(tty *os.File, prompt string) ([]byte, error) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer signal.Stop(signals)
	fd := int(tty.Fd())
	before, err := term.MakeRaw(fd) // so Ctrl-C is a character
	if err != nil {
		return nil, fmt.Errorf("passphrase: %w", err)
	}
	type line struct {
		text string
		err  error
	}
	typed := make(chan line, 1)
	go func() { // after a signal it waits for a line that nobody takes, until the program has ended
		text, err := term.NewTerminal(tty, "").ReadPassword(prompt)
		typed <- line{text, err}
	}()
	var l line
	select {
	case l = <-typed:
		switch {
		case errors.Is(l.err, io.EOF): // Ctrl-C and Ctrl-D
			l.err = ErrInterrupted
		case errors.Is(l.err, term.ErrPasteIndicator): // pasted with its line end: a line like any other
			l.err = nil
		}
	case <-signals:
		l.err = ErrInterrupted
	}
	if err := errors.Join(l.err, term.Restore(fd, before)); err != nil {
		fmt.Fprintln(tty)
		return nil, fmt.Errorf("passphrase: %w", err)
	}
	return []byte(l.text), nil
}
