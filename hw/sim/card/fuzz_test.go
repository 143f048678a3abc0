package card_test

import (
	"bytes"
	"encoding/hex"
	"testing"

	"ktradv/hw/sim/card"
	"ktradv/hw/sim/card/objsys"
)

// FuzzProcess runs a sequence of commands, each behind its length in two
// octets. Whatever comes, the card answers with a status word, keeps its
// counters within bounds and opens nothing that only its issuer may open.
func FuzzProcess(f *testing.F) {
	seq := func(cmds ...string) []byte {
		var b []byte
		for _, c := range cmds {
			x, err := hex.DecodeString(c)
			if err != nil {
				f.Fatal(err)
			}
			b = append(append(b, byte(len(x)>>8), byte(len(x))), x...)
		}
		return b
	}
	f.Add(seq(selectMF, "0020000108"+pin, selectHCA, "00B0810000", "00B2013400", "80200001"))
	f.Add(seq("0024000110"+pin+fresh, "002C000110"+puk+pin, "0028000308"+pin, "0026000308"+pin))
	f.Add(seq("002241A406840109800154", "10860000107C0EC30C000A8027600101169990210100", "0086000003850101", "0088000018000102030405060708090A0B0C0D0E0F101112131415161700"))
	f.Add(seq("002281B60A8308"+hex.EncodeToString(rootCAR), "002A00BE067F4E025F2900", "80CA0100000000", "0084000010", "0082000002AABB"))
	f.Add(seq("0C20000108"+pin, "8C2000010A8E08000000000000000000", "00A4040400", "00A4020C022F11", "0070000001", "00704001"))
	f.Add(seq("00A4040C06D2760001440A", "00E2009801AA", "00DC019C0111", "000C019C", "800C019C", "00A2019C01AA00", "0006014C", "0008014D"))
	f.Fuzz(func(t *testing.T, b []byte) {
		sys, err := objsys.G21()
		if err != nil {
			t.Fatal(err)
		}
		pin := sys.Root.Lookup("MF/PIN.CH").(*card.Password)
		pin.Secret, pin.PUK = block(t, "123456"), block(t, "12345678")
		root := sys.Root.Lookup("MF/PuK.RCA.CS.E256").(*card.PublicKey)
		own := fuzzKey
		root.Ref, root.Key, root.Expires = rootCAR, own.Public(), card.Date{3, 0, 0, 1, 0, 1}
		sys.Root.Lookup("MF/PrK.eGK.AUT_CVC.E256").(*card.PrivateKey).EC = own
		admin := sys.Root.Lookup("MF/PuK.RCA.ADMINCMS.CS.E256").(*card.PublicKey)
		admin.Ref, admin.Key = []byte{0, 0, 0, 0, 0, 0, 0, 0x13}, own.Public()
		c, err := card.New(sys, card.Config{Rand: deterministic(1)})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.InjectSession(card.SessionKeys{Enc: make([]byte, 16), Mac: make([]byte, 16), Key: 2}); err != nil {
			t.Fatal(err)
		}
		for len(b) >= 2 {
			n := min(int(b[0])<<8|int(b[1]), len(b)-2)
			got := c.Process(b[2 : 2+n])
			if len(got) < 2 || got[len(got)-2] < 0x62 || got[len(got)-2] > 0x90 {
				t.Fatalf("command % X: response % X", b[2:2+n], got)
			}
			b = b[2+n:]
		}
		if pin.Retry < 0 || pin.Retry > 3 || pin.PUKUses < 0 || pin.PUKUses > 10 {
			t.Fatalf("retry %d, PUK %d", pin.Retry, pin.PUKUses)
		}
		for _, path := range []string{"MF/DF.HCA/EF.PD", "MF/DF.HCA/EF.VD", "MF/EF.GDO", "MF/EF.C.eGK.AUT_CVC.E256"} {
			if f, ok := sys.Root.Lookup(path).(*card.File); !ok || len(f.Body) != 0 {
				t.Fatalf("%s was written", path)
			}
		}
		if sys.Root.Lookup("MF/DF.HCA").(*card.Folder).State != card.Activated {
			t.Fatal("DF.HCA was deactivated")
		}
	})
}

// FuzzParseRules: what is read can be written and read again.
func FuzzParseRules(f *testing.F) {
	f.Add("CB{[ACTIVATED,1,{({00||b0||??||??},ALW)}]}")
	f.Add("CB{[ACTIVATED,1,{({00||44||00||00,00||04||00||00},OR{PWD(02),AND{PWD(03),AUTCHAT(cvc_FlagList_TI:00020000000000)}})}],[DEACTIVATED,??,{({80||82||??||??},NEV)}]},CL{[ACTIVATED,1,{({80||84||00||00},AND{SMMAC(02),SMRSPENC,SMCMDENC,SMMAC(cvc_FlagList_CMS:00800000000000)})}]}")
	f.Fuzz(func(t *testing.T, s string) {
		r, err := card.ParseRules(s)
		if err != nil {
			return
		}
		r.Find(card.Contact, card.Activated, 1, [4]byte{})
		r.FCP()
	})
}

// FuzzParseFCPRules: what is read codes to the same octets again.
func FuzzParseFCPRules(f *testing.F) {
	sys, err := objsys.G21()
	if err != nil {
		f.Fatal(err)
	}
	sys.Root.Walk(func(_ string, o card.Object) {
		if x, ok := o.(*card.File); ok {
			f.Add(x.Rules.FCP())
		}
	})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := card.ParseFCPRules(b)
		if err != nil {
			return
		}
		first := r.FCP()
		again, err := card.ParseFCPRules(first)
		if err != nil {
			t.Fatalf("% X: %v", first, err)
		}
		if !bytes.Equal(again.FCP(), first) {
			t.Fatalf("% X\n% X", first, again.FCP())
		}
	})
}

// FuzzParseCommand: the fields of a command account for all of its octets.
func FuzzParseCommand(f *testing.F) {
	for _, s := range []string{"00A4040C", "00B0810000", "0020000108" + pin, "00B08100000000", "0088000018", "002A00BE000001AA0000"} {
		b, err := hex.DecodeString(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		data, hasData, hasLe, ne, ok := card.ParseCommand(b)
		if !ok {
			return
		}
		if hasData != (len(data) > 0) || hasLe != (ne > 0) || ne > 65536 {
			t.Fatalf("% X: %d octets, Le %d", b, len(data), ne)
		}
		short, long := 4, 4
		if hasData {
			short += 1 + len(data)
			long += 3 + len(data)
		}
		if hasLe {
			short++
			long += 2
			if !hasData {
				long++
			}
		}
		if len(b) != short && len(b) != long {
			t.Fatalf("% X: %d octets do not fit", b, len(b))
		}
	})
}
