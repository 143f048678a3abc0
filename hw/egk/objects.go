package egk

import (
	"fmt"

	"ktradv/hw/cos"
)

// Generation is the generation of a card's object system.
type Generation int

// The generations. G1 and G1+ cards are all expired and not accepted (TAB_ADV_304: G2 or higher).
const (
	GUnknown Generation = iota
	G1
	G1Plus
	G2
	G21
)

var generationNames = [...]string{"unknown", "G1", "G1+", "G2", "G2.1"}

// String returns the usual name, for example "G2.1".
func (g Generation) String() string {
	if g < 0 || int(g) >= len(generationNames) {
		return generationNames[GUnknown]
	}
	return generationNames[g]
}

// App names an application (folder) of the card.
type App string

// The applications.
const (
	MF       App = "MF"
	HCA      App = "DF.HCA"  // health care application; its state is "Gesundheitsanwendung aktiv"
	NFD      App = "DF.NFD"  // emergency data
	DPE      App = "DF.DPE"  // personal declarations
	GDD      App = "DF.GDD"  // data donation consents
	OSE      App = "DF.OSE"  // organ donation
	AMTS     App = "DF.AMTS" // medication plan
	ESIGN    App = "DF.ESIGN"
	CIAESIGN App = "DF.CIA_ESIGN"
)

// PIN names a password object of the card.
type PIN string

// The password objects. All MRPINs share the secret of PIN.CH.
const (
	PINCH        PIN = "PIN.CH"
	MRPINHome    PIN = "MRPIN.home"
	MRPINNFD     PIN = "MRPIN.NFD"
	MRPINNFDRead PIN = "MRPIN.NFD_READ"
	MRPINDPE     PIN = "MRPIN.DPE"
	MRPINDPERead PIN = "MRPIN.DPE_READ" // G2 only
	MRPINGDD     PIN = "MRPIN.GDD"
	MRPINOSE     PIN = "MRPIN.OSE"
	MRPINAMTS    PIN = "MRPIN.AMTS"
	PINAMTSRep   PIN = "PIN.AMTS_REP" // of the representative
)

// Lengths of the secrets in digits (egk-card.md 1.7).
const (
	PINMinDigits = 6
	PINMaxDigits = 8
	PUKDigits    = 8
)

// FileKind is the structure of a file.
type FileKind int

// The structures.
const (
	Transparent FileKind = iota
	LinearFixed
	LinearVariable
	Cyclic
)

// Folder is an application of the object system.
type Folder struct {
	App    App
	AID    string // application identifier, hexadecimal
	Parent App
}

// File is an elementary file of the object system.
type File struct {
	App        App
	Name       string
	Kind       FileKind
	FID        uint16
	SFID       byte
	Size       int // octets; 0 where the object system names records only
	Records    int // greatest number of records
	RecordSize int // greatest length of a record
}

// Password is a password object of the object system.
type Password struct {
	PIN   PIN
	App   App             // where it lives; the application has to be selected unless it is the MF
	Ref   cos.PasswordRef // reference in commands, with bit 80 when the password is specific to its application
	Multi bool            // shares the secret of PIN.CH
	// Switchable: the need to enter it can be switched on and off (ENABLE, DISABLE VERIFICATION REQUIREMENT).
	Switchable bool
}

// Key is a private or secret key of the object system. Public keys are named by CAR and CHR instead.
type Key struct {
	App  App
	Name string
	Ref  byte // reference in commands, with bit 80 when the key is specific to its application
}

// ObjectSystem is what a card of one generation holds (gemSpec_eGK_ObjSys and gemSpec_eGK_ObjSys_G2_1 as in the card
// images of egk-card.md 1.2 to 1.8).
type ObjectSystem struct {
	Generation Generation
	Folders    []Folder
	Files      []File
	Passwords  []Password
	Keys       []Key
}

// Objects returns the object system of a generation, nil for G1 and G1+. The result must not be changed.
func Objects(g Generation) *ObjectSystem {
	switch g {
	case G2:
		return &objectsG2
	case G21:
		return &objectsG21
	}
	return nil
}

// Password returns a password object; false when the generation has none of that name.
func (s *ObjectSystem) Password(p PIN) (Password, bool) {
	for _, x := range s.Passwords {
		if x.PIN == p {
			return x, true
		}
	}
	return Password{}, false
}

// File returns a file by its name; false when the generation has none of that name.
func (s *ObjectSystem) File(name string) (File, bool) {
	for _, x := range s.Files {
		if x.Name == name {
			return x, true
		}
	}
	return File{}, false
}

// AID returns the application identifier, an error for an application that the generation does not have.
func (s *ObjectSystem) AID(a App) ([]byte, error) {
	for _, x := range s.Folders {
		if x.App == a {
			var aid []byte
			_, err := fmt.Sscanf(x.AID, "%x", &aid)
			return aid, err
		}
	}
	return nil, fmt.Errorf("generation %v has no application %s", s.Generation, a)
}

var objectsG2 = ObjectSystem{
	Generation: G2,
	Folders: append(foldersBoth[:len(foldersBoth):len(foldersBoth)],
		Folder{CIAESIGN, "E828BD080FA000000167455349474E", MF}),
	Files: append(filesBoth[:len(filesBoth):len(filesBoth)],
		File{AMTS, "EF.AMTS", Transparent, 0xE005, 0x05, 13560, 0, 0},
		File{AMTS, "EF.EinwilligungAMTS", LinearVariable, 0xE004, 0x04, 207, 3, 69},
		File{HCA, "EF.TTN", LinearFixed, 0xD00F, 0x0F, 0, 5, 15},
		File{CIAESIGN, "EF.CIA_Info", Transparent, 0x5032, 0x12, 23, 0, 0}),
	Passwords: []Password{
		{PINCH, MF, 0x01, false, false},
		{MRPINHome, MF, 0x02, true, false},
		{MRPINNFD, NFD, 0x83, true, true},
		{MRPINNFDRead, NFD, 0x87, true, false},
		{MRPINDPE, DPE, 0x84, true, true},
		{MRPINDPERead, DPE, 0x88, true, false},
		{MRPINGDD, GDD, 0x85, true, true},
		{MRPINOSE, OSE, 0x89, true, false},
		{MRPINAMTS, AMTS, 0x8C, true, false},
		{PINAMTSRep, AMTS, 0x8D, false, false},
	},
	Keys: keysBoth,
}

var objectsG21 = ObjectSystem{
	Generation: G21,
	Folders:    foldersBoth,
	Files: append(filesBoth[:len(filesBoth):len(filesBoth)],
		File{AMTS, "EF.AMTS", Transparent, 0xE005, 0x05, 13767, 0, 0},
		File{MF, "EF.CardAccess", Transparent, 0x011C, 0x1C, 22, 0, 0},
		File{ESIGN, "EF.C.CH.AUT.E256", Transparent, 0xC504, 0x04, 1900, 0, 0},
		File{ESIGN, "EF.C.CH.AUTN.E256", Transparent, 0xC50B, 0x0B, 1900, 0, 0},
		File{ESIGN, "EF.C.CH.ENC.E256", Transparent, 0xC205, 0x05, 1900, 0, 0},
		File{ESIGN, "EF.C.CH.ENCV.E256", Transparent, 0xC50C, 0x0C, 1900, 0, 0}),
	Passwords: []Password{
		{PINCH, MF, 0x01, false, false},
		{MRPINHome, MF, 0x02, true, false},
		{MRPINNFD, MF, 0x03, true, true},
		{MRPINDPE, MF, 0x04, true, true},
		{MRPINGDD, MF, 0x05, true, true},
		{MRPINNFDRead, MF, 0x07, true, false},
		{MRPINOSE, MF, 0x09, true, false},
		{MRPINAMTS, MF, 0x0C, true, true},
		{PINAMTSRep, MF, 0x0D, false, false},
	},
	Keys: append(keysBoth[:len(keysBoth):len(keysBoth)],
		Key{MF, "SK.CAN", 0x02},
		Key{ESIGN, "PrK.CH.AUT.E256", 0x84},
		Key{ESIGN, "PrK.CH.AUTN.E256", 0x8B},
		Key{ESIGN, "PrK.CH.ENC.E256", 0x85},
		Key{ESIGN, "PrK.CH.ENCV.E256", 0x8C}),
}

// What both generations have.
var (
	foldersBoth = []Folder{
		{MF, "D2760001448000", ""},
		{HCA, "D27600000102", MF},
		{NFD, "D27600014407", HCA},
		{DPE, "D27600014408", HCA},
		{GDD, "D2760001440A", HCA},
		{OSE, "D2760001440B", HCA},
		{AMTS, "D2760001440C", HCA},
		{ESIGN, "A000000167455349474E", MF},
	}
	filesBoth = []File{
		{MF, "EF.ATR", Transparent, 0x2F01, 0x1D, 134, 0, 0},
		{MF, "EF.C.CA_eGK.CS.E256", Transparent, 0x2F07, 0x07, 220, 0, 0},
		{MF, "EF.C.eGK.AUT_CVC.E256", Transparent, 0x2F06, 0x06, 222, 0, 0},
		{MF, "EF.DIR", LinearVariable, 0x2F00, 0x1E, 200, 20, 32},
		{MF, "EF.GDO", Transparent, 0x2F02, 0x02, 12, 0, 0},
		{MF, "EF.Version", LinearFixed, 0x2F10, 0x10, 0, 4, 5},
		{MF, "EF.Version2", Transparent, 0x2F11, 0x11, 60, 0, 0},
		{HCA, "EF.Einwilligung", LinearFixed, 0xD005, 0x05, 0, 10, 69},
		{HCA, "EF.GVD", Transparent, 0xD003, 0x03, 600, 0, 0},
		{HCA, "EF.Logging", Cyclic, 0xD006, 0x06, 0, 50, 46},
		{HCA, "EF.PD", Transparent, 0xD001, 0x01, 850, 0, 0},
		{HCA, "EF.Pruefungsnachweis", Transparent, 0xD01C, 0x1C, 300, 0, 0},
		{HCA, "EF.Standalone", Transparent, 0xDA0A, 0x0A, 900, 0, 0},
		{HCA, "EF.StatusVD", Transparent, 0xD00C, 0x0C, 25, 0, 0},
		{HCA, "EF.VD", Transparent, 0xD002, 0x02, 1250, 0, 0},
		{HCA, "EF.Verweis", LinearFixed, 0xD009, 0x09, 0, 10, 20},
		{NFD, "EF.NFD", Transparent, 0xD010, 0x10, 12075, 0, 0},
		{NFD, "EF.StatusNFD", Transparent, 0xD00E, 0x0E, 25, 0, 0},
		{DPE, "EF.DPE", Transparent, 0xD01B, 0x1B, 1725, 0, 0},
		{DPE, "EF.StatusDPE", Transparent, 0xD018, 0x18, 25, 0, 0},
		{GDD, "EF.EinwilligungGDD", LinearVariable, 0xD013, 0x13, 600, 20, 60},
		{GDD, "EF.VerweiseGDD", LinearVariable, 0xD01A, 0x1A, 1200, 20, 60},
		{OSE, "EF.OSE", Transparent, 0xE001, 0x01, 7000, 0, 0},
		{OSE, "EF.StatusOSE", Transparent, 0xE002, 0x02, 25, 0, 0},
		{AMTS, "EF.VerweiseAMTS", LinearVariable, 0xE006, 0x06, 600, 5, 120},
		{AMTS, "EF.StatusAMTS", Transparent, 0xE007, 0x07, 25, 0, 0},
		{ESIGN, "EF.C.CH.AUT.R2048", Transparent, 0xC500, 0x01, 1900, 0, 0},
		{ESIGN, "EF.C.CH.AUTN.R2048", Transparent, 0xC509, 0x09, 1900, 0, 0},
		{ESIGN, "EF.C.CH.ENC.R2048", Transparent, 0xC200, 0x02, 1900, 0, 0},
		{ESIGN, "EF.C.CH.ENCV.R2048", Transparent, 0xC50A, 0x0A, 1900, 0, 0},
	}
	keysBoth = []Key{
		{MF, "PrK.eGK.AUT_CVC.E256", 0x09},
		{MF, "SK.CMS.AES128", 0x13},
		{MF, "SK.CMS.AES256", 0x18},
		{MF, "SK.VSD.AES128", 0x12},
		{MF, "SK.VSD.AES256", 0x19},
		{AMTS, "PrK.AMTS.ENC.E256", 0x88},
		{ESIGN, "PrK.CH.AUT.R2048", 0x82},
		{ESIGN, "PrK.CH.AUTN.R2048", 0x86},
		{ESIGN, "PrK.CH.ENC.R2048", 0x83},
		{ESIGN, "PrK.CH.ENCV.R2048", 0x87},
	}
)
