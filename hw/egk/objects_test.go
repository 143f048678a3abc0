package egk_test

import (
	"encoding/hex"
	"fmt"
	"sort"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ktradv/hw/egk"
	"ktradv/hw/internal/cardtest"
)

// describe puts the tables into lines that can be compared with those of an image.
func describe(s *egk.ObjectSystem) []string {
	var out []string
	kinds := map[egk.FileKind]string{egk.Transparent: "Transparent", egk.LinearFixed: "LinearFixed", egk.LinearVariable: "LinearVariable", egk.Cyclic: "Cyclic"}
	for _, f := range s.Folders {
		out = append(out, fmt.Sprintf("folder %s %s in %s", f.App, strings.ToLower(f.AID), f.Parent))
	}
	for _, f := range s.Files {
		out = append(out, fmt.Sprintf("file %s/%s %s %04x %02x %d %d %d", f.App, f.Name, kinds[f.Kind], f.FID, f.SFID, f.Size, f.Records, f.RecordSize))
	}
	for _, p := range s.Passwords {
		out = append(out, fmt.Sprintf("password %s/%s %02x multi %v switchable %v", p.App, p.PIN, byte(p.Ref), p.Multi, p.Switchable))
	}
	for _, k := range s.Keys {
		out = append(out, fmt.Sprintf("key %s/%s %02x", k.App, k.Name, k.Ref))
	}
	sort.Strings(out)
	return out
}

func describeImage(t *testing.T, img *cardtest.Image) []string {
	var out []string
	local := func(folder string, id int) int {
		if folder != "MF" {
			id |= 0x80
		}
		return id
	}
	for _, o := range img.Objects {
		kind, isFile := strings.CutSuffix(o.Type, "ElementaryFile")
		switch {
		case isFile:
			out = append(out, fmt.Sprintf("file %s/%s %s %04x %02x %d %d %d", o.Folder, o.Name, kind, o.Number(t, "fileIdentifier"),
				o.Number(t, "shortFileIdentifier"), o.Number(t, "numberOfOctet"), o.Number(t, "maximumNumberOfRecords"), o.Number(t, "maximumRecordLength")))
		case o.Type == "ADF" || o.Type == "Application":
			out = append(out, fmt.Sprintf("folder %s %s in %s", o.Name, hex.EncodeToString(o.Hex(t, "applicationIdentifier")), o.Folder))
		case o.Attr["pwdIdentifier"] != "":
			rules := o.Attr["accessRules"]
			switchable := strings.Contains(rules, "||26||00||") && strings.Contains(rules, "||28||00||")
			out = append(out, fmt.Sprintf("password %s/%s %02x multi %v switchable %v", o.Folder, o.Name,
				local(o.Folder, o.Number(t, "pwdIdentifier")), o.Attr["passwordReference"] != "", switchable))
		case o.Attr["keyIdentifier"] != "" && !strings.HasPrefix(o.Name, "PuK."):
			out = append(out, fmt.Sprintf("key %s/%s %02x", o.Folder, o.Name, local(o.Folder, o.Number(t, "keyIdentifier"))))
		}
	}
	sort.Strings(out)
	return out
}

func TestTablesAgreeWithTheCardImages(t *testing.T) {
	t.Parallel()
	for g, name := range map[egk.Generation]string{egk.G2: cardtest.ImageG2, egk.G21: cardtest.ImageG21} {
		t.Run(g.String(), func(t *testing.T) {
			t.Parallel()
			img := cardtest.LoadImage(t, name)
			if diff := cmp.Diff(describeImage(t, img), describe(egk.Objects(g))); diff != "" {
				t.Errorf("image (-) and table (+) differ:\n%s", diff)
			}
			v, err := egk.ParseVersion2(img.Body("EF.Version2"))
			if err != nil || v.ObjectSystem.Generation() != g {
				t.Errorf("EF.Version2 of the image: %v, generation %v, %v", v.ObjectSystem, v.ObjectSystem.Generation(), err)
			}
		})
	}
}

func TestLookups(t *testing.T) {
	t.Parallel()
	if egk.Objects(egk.G1) != nil || egk.Objects(egk.GUnknown) != nil {
		t.Error("there is an object system of G1")
	}
	for g, want := range map[egk.Generation]string{egk.G2: "8c DF.AMTS", egk.G21: "0c MF"} {
		p, ok := egk.Objects(g).Password(egk.MRPINAMTS)
		if got := fmt.Sprintf("%02x %s", byte(p.Ref), p.App); !ok || got != want {
			t.Errorf("MRPIN.AMTS of %v is %s, want %s", g, got, want)
		}
	}
	if _, ok := egk.Objects(egk.G21).Password(egk.MRPINDPERead); ok {
		t.Error("G2.1 has MRPIN.DPE_READ")
	}
	if _, ok := egk.Objects(egk.G2).File("EF.C.CH.AUT.E256"); ok {
		t.Error("G2 has a certificate on brainpoolP256r1")
	}
	if _, err := egk.Objects(egk.G21).AID(egk.CIAESIGN); err == nil {
		t.Error("G2.1 has DF.CIA_ESIGN")
	}
	if aid, err := egk.Objects(egk.G21).AID(egk.NFD); err != nil || hex.EncodeToString(aid) != "d27600014407" {
		t.Errorf("DF.NFD is %x, %v", aid, err)
	}
}
