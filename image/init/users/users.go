// Package users is the one place for the users and groups of the terminal: their numbers, and the files /etc/passwd and
// /etc/group that the image builder writes from them. Nobody can log in: no shell exists, and no entry has a password.
package users

import (
	"fmt"
	"strings"
)

// ID is the number of a user and of the group of the same name.
type ID uint32

// The users.
const (
	Root  ID = 0
	Kiosk ID = 1000 // the AdV-App: display, input, its logs
	PCSCD ID = 1001 // the card service: nodes of card readers
	Net   ID = 1002 // network set-up
	Time  ID = 1003 // clock
)

var table = []struct {
	id   ID
	name string
	what string
}{
	{Root, "root", "adv-init"},
	{Kiosk, "kiosk", "AdV-App"},
	{PCSCD, "pcscd", "card service"},
	{Net, "net", "network"},
	{Time, "time", "clock"},
}

// String is the user's name.
func (id ID) String() string {
	for _, u := range table {
		if u.id == id {
			return u.name
		}
	}
	return fmt.Sprint(uint32(id))
}

// Passwd is the content of /etc/passwd.
func Passwd() []byte {
	var b strings.Builder
	for _, u := range table {
		fmt.Fprintf(&b, "%s:*:%d:%d:%s:/:/nonexistent\n", u.name, u.id, u.id, u.what)
	}
	return []byte(b.String())
}

// Group is the content of /etc/group.
func Group() []byte {
	var b strings.Builder
	for _, u := range table {
		fmt.Fprintf(&b, "%s:*:%d:\n", u.name, u.id)
	}
	return []byte(b.String())
}
