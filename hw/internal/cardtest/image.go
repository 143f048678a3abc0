package cardtest

import (
	"context"
	"encoding/hex"
	"encoding/xml"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"ktradv/hw/apdu"
	"ktradv/internal/testdata"
)

// Names of the public card images.
const (
	ImageG2  = "EGKG2_80276883110000017222_gema5.xml"
	ImageG21 = "IMG_eGK_G21_TU_root6_80276883110000152715.xml"
	ImageHBA = "HBA_80276883110000220885_gema5.xml"
	ImageSMC = "SMC_B_80276883110000168650_gema5.xml"
)

// Object is one object of a card image.
type Object struct {
	Folder string            // name of the application it lives in
	Name   string            // name in the image
	Type   string            // type in the image, for example TransparentElementaryFile
	Attr   map[string]string // attributes
	// Records of a structured file, in order.
	Records [][]byte
}

// Hex returns an attribute as octets; blanks and braces around it do not count.
func (o Object) Hex(t testing.TB, name string) []byte {
	t.Helper()
	s := strings.Trim(strings.Join(strings.Fields(o.Attr[name]), ""), "{}")
	if len(s)%2 != 0 {
		s = "0" + s
	}
	return Unhex(t, s)
}

// Number returns a hexadecimal attribute as a number, 0 when it is missing.
func (o Object) Number(t testing.TB, name string) int {
	t.Helper()
	if o.Attr[name] == "" {
		return 0
	}
	n, err := strconv.ParseInt(o.Attr[name], 16, 32)
	if err != nil {
		t.Fatalf("%s of %s: %v", name, o.Name, err)
	}
	return int(n)
}

// Image is a public card image.
type Image struct {
	t       testing.TB
	Objects []Object
	// Deactivated and absent applications, by name, as a test wants them.
	Hidden, Absent map[string]bool
	// PINStatus is the status word of GET PIN STATUS by password name; default 63C3, 62D0 for a disabled one.
	PINStatus map[string]uint16
	// Extra answers commands that the image does not answer by itself; folder is the current application.
	Extra func(folder string, c apdu.Command) (apdu.Response, bool)
	// Sent counts commands.
	Sent int
}

type xmlNode struct {
	XMLName  xml.Name
	ID       string    `xml:"id,attr"`
	Type     string    `xml:"objectType,attr"`
	Text     string    `xml:",chardata"`
	Children []xmlNode `xml:",any"`
}

// LoadImage reads a public card image; the test is skipped where the test data is absent.
func LoadImage(t testing.TB, name string) *Image {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(testdata.Dir(t, "cards"), "images", name))
	if err != nil {
		t.Fatal(err)
	}
	var root xmlNode
	if err := xml.Unmarshal(raw, &root); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	img := &Image{t: t, Hidden: map[string]bool{}, Absent: map[string]bool{}, PINStatus: map[string]uint16{}}
	img.walk(root, "")
	return img
}

func (img *Image) walk(n xmlNode, folder string) {
	if n.Type != "" {
		o := Object{Folder: folder, Name: n.ID, Type: n.Type, Attr: map[string]string{}}
		for _, c := range n.Children {
			switch c.XMLName.Local {
			case "attributes":
				for _, a := range c.Children {
					o.Attr[a.ID] = strings.TrimSpace(a.Text)
				}
			case "records":
				for _, r := range c.Children {
					for _, a := range r.Children {
						if a.ID == "recordValue" {
							o.Records = append(o.Records, Unhex(img.t, strings.Join(strings.Fields(a.Text), "")))
						}
					}
				}
			}
		}
		img.Objects = append(img.Objects, o)
		if n.Type == "ADF" || n.Type == "Application" {
			folder = n.ID
		}
	}
	for _, c := range n.Children {
		img.walk(c, folder)
	}
}

// Object returns the object of that name.
func (img *Image) Object(name string) Object {
	img.t.Helper()
	for _, o := range img.Objects {
		if o.Name == name {
			return o
		}
	}
	img.t.Fatalf("the image has no object %s", name)
	return Object{}
}

// Body returns the content of a transparent file up to its logical end.
func (img *Image) Body(name string) []byte {
	img.t.Helper()
	o := img.Object(name)
	body := o.Hex(img.t, "body")
	if n := o.Number(img.t, "positionLogicalEndOfFile"); n < len(body) {
		body = body[:n]
	}
	return body
}

// Transmitter returns a card that answers SELECT by AID, READ BINARY and GET PIN STATUS from the image, without any
// access rule: enough to see what a reader of files makes of them.
func (img *Image) Transmitter() apdu.Transmitter {
	folder, file := "", ""
	byType := func(match func(Object) bool) *Object {
		for i := range img.Objects {
			if match(img.Objects[i]) {
				return &img.Objects[i]
			}
		}
		return nil
	}
	return apdu.TransmitterFunc(func(_ context.Context, c apdu.Command) (apdu.Response, error) {
		img.Sent++
		switch {
		case c.INS == 0xA4 && c.P1 == 0x04:
			want := hex.EncodeToString(c.Data)
			o := byType(func(o Object) bool {
				aid := strings.Trim(o.Attr["applicationIdentifier"], "{}")
				return aid != "" && (strings.EqualFold(aid, want) || want == "" && o.Type == "ADF")
			})
			if o == nil || img.Absent[o.Name] {
				return apdu.Response{SW: 0x6A82}, nil
			}
			folder, file = o.Name, ""
			if img.Hidden[o.Name] {
				return apdu.Response{SW: 0x6283}, nil
			}
			return apdu.Response{SW: apdu.SWOK}, nil
		case c.INS == 0xB0:
			offset := int(c.P1)<<8 | int(c.P2)
			if c.P1&0x80 != 0 {
				offset = int(c.P2)
				o := byType(func(o Object) bool {
					return o.Folder == folder && o.Type == "TransparentElementaryFile" && o.Number(img.t, "shortFileIdentifier") == int(c.P1&0x1F)
				})
				if o == nil {
					return apdu.Response{SW: 0x6A82}, nil
				}
				file = o.Name
			}
			if file == "" {
				return apdu.Response{SW: 0x6986}, nil
			}
			body := img.Body(file)
			if offset >= len(body) {
				return apdu.Response{SW: 0x6B00}, nil
			}
			return apdu.Response{Data: body[offset:min(len(body), offset+c.Ne)], SW: apdu.SWOK}, nil
		case c.CLA == 0x80 && c.INS == 0x20:
			home := "MF"
			if c.P2&0x80 != 0 {
				home = folder
			}
			o := byType(func(o Object) bool {
				return o.Folder == home && o.Attr["pwdIdentifier"] != "" && o.Number(img.t, "pwdIdentifier") == int(c.P2&0x1F)
			})
			if o == nil {
				return apdu.Response{SW: 0x6A88}, nil
			}
			if sw, ok := img.PINStatus[o.Name]; ok {
				return apdu.Response{SW: sw}, nil
			}
			if o.Attr["flagEnabled"] == "FALSE" {
				return apdu.Response{SW: 0x62D0}, nil
			}
			return apdu.Response{SW: 0x63C3}, nil
		}
		if img.Extra != nil {
			if r, ok := img.Extra(folder, c); ok {
				return r, nil
			}
		}
		return apdu.Response{SW: 0x6D00}, nil
	})
}
