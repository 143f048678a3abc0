package card

import (
	"bytes"
	"slices"
)

// file returns the elementary file with a file identifier directly below f.
func (f *Folder) file(fid uint16) *File {
	for _, o := range f.Children {
		if e, ok := o.(*File); ok && e.FID == fid {
			return e
		}
	}
	return nil
}

func (f *Folder) bySFID(sfid byte) *File {
	for _, o := range f.Children {
		if e, ok := o.(*File); ok && sfid != 0 && e.SFID == sfid {
			return e
		}
	}
	return nil
}

// selectFile is SELECT.
func (c *Card) selectFile(cmd *command) ([]byte, uint16) {
	next, control := false, false
	switch cmd.p2 {
	case 0x0C:
	case 0x0E:
		next = true
	case 0x04:
		control = true
	case 0x06:
		next, control = true, true
	default:
		return nil, swWrongP1P2
	}
	if next && cmd.p1 != 0x04 {
		return nil, swWrongP1P2
	}
	if control != cmd.hasLe {
		return nil, swWrongLength
	}
	var (
		folder *Folder
		ef     *File
	)
	switch cmd.p1 {
	case 0x01, 0x02:
		if len(cmd.data) != 2 {
			return nil, swWrongLength
		}
		fid := uint16(cmd.data[0])<<8 | uint16(cmd.data[1])
		if cmd.p1 == 0x02 {
			ef = c.ch.folder.file(fid)
			break
		}
		for _, o := range c.ch.folder.Children {
			if d, ok := o.(*Folder); ok && d.FID != 0 && d.FID == fid {
				folder = d
			}
		}
	case 0x03:
		if cmd.hasData {
			return nil, swWrongLength
		}
		folder = c.ch.folder.parent
	case 0x04:
		folder = c.byAID(cmd.data, next)
	default:
		return nil, swWrongP1P2
	}
	var (
		fcp   []byte
		state LifeCycle
	)
	switch {
	case folder != nil:
		c.enter(folder)
		fcp, state = folder.controlParameters(), effective(folder.State, folder.parent)
	case ef != nil:
		c.ch.ef = ef
		fcp, state = ef.controlParameters(), effective(ef.State, ef.parent)
	default:
		return nil, swFileNotFound
	}
	sw := swOK
	switch state {
	case Deactivated:
		sw = swFileDeactivated
	case Terminated:
		sw = swFileTerminated
	}
	if !control {
		return nil, sw
	}
	// A response that does not fit is cut without a warning: so answered the
	// real card of the recorded traces.
	return fcp[:min(len(fcp), cmd.ne)], sw
}

// byAID finds an application by its identifier or the beginning of it; no
// identifier means the MF. next continues behind the current folder.
func (c *Card) byAID(aid []byte, next bool) *Folder {
	if len(aid) == 0 {
		return c.sys.Root
	}
	var found *Folder
	skip := next
	c.sys.Root.folders(func(f *Folder) bool {
		if skip {
			skip = f != c.ch.folder
			return true
		}
		if bytes.HasPrefix(f.AID, aid) {
			found = f
		}
		return found == nil
	})
	return found
}

// enter makes f the current folder. Security states and security
// environments of folders that do not lead to f are lost, and so are the
// selected keys when the folder changes.
func (c *Card) enter(f *Folder) {
	c.ch.ef = nil
	if f == c.ch.folder {
		return
	}
	c.ch.folder = f
	c.ch.intern, c.ch.extern, c.ch.verify, c.ch.sign, c.ch.cipher = nil, nil, nil, nil, nil
	for k := range c.ch.pwd {
		if !f.within(k.folder) {
			delete(c.ch.pwd, k)
		}
	}
	for d := range c.ch.se {
		if !f.within(d) {
			delete(c.ch.se, d)
		}
	}
}

// transparent finds the file and the offset of a command for transparent files.
func (c *Card) transparent(cmd *command) (f *File, offset int, sw uint16) {
	f, offset = c.ch.ef, int(cmd.p1)<<8|int(cmd.p2)
	if cmd.p1&0x80 != 0 {
		sfid := cmd.p1 & 0x1F
		if cmd.p1&0x60 != 0 || sfid == 0 || sfid == 0x1F {
			return nil, 0, swWrongP1P2
		}
		if f, offset = c.ch.folder.bySFID(sfid), int(cmd.p2); f == nil {
			return nil, 0, swFileNotFound
		}
		c.ch.ef = f
	}
	if f == nil {
		return nil, 0, swNoCurrentEF
	}
	if f.Structure != Transparent {
		return nil, 0, swWrongFileType
	}
	if !c.access(&f.Header, f.parent, cmd) {
		return nil, 0, swSecurityStatus
	}
	return f, offset, swOK
}

// capacity is how many octets of data fit into a response.
func (c *Card) capacity() int {
	if !c.ch.secured {
		return c.limits.rsp - 2
	}
	// Cryptogram object with padding, status object, checksum object, trailer.
	return c.limits.rspSM - (5 + 16 + 4 + 10 + 2)
}

// readBinary is READ BINARY.
func (c *Card) readBinary(cmd *command) ([]byte, uint16) {
	if cmd.hasData || !cmd.hasLe {
		return nil, swWrongLength
	}
	f, offset, sw := c.transparent(cmd)
	if sw != swOK {
		return nil, sw
	}
	if offset >= len(f.Body) {
		return nil, swOffsetTooBig
	}
	rest := f.Body[offset:]
	if cmd.ne > len(rest) && !cmd.wild {
		return rest[:min(len(rest), c.capacity())], swEndOfFile
	}
	return rest[:min(len(rest), cmd.ne, c.capacity())], swOK
}

// updateBinary is UPDATE BINARY.
func (c *Card) updateBinary(cmd *command) ([]byte, uint16) {
	return c.store(cmd, func(_ *File, offset int) (int, uint16) { return offset, swOK })
}

// writeBinary is WRITE BINARY: it appends at the logical end of the file,
// which is how EF.ATR gets its last data object.
func (c *Card) writeBinary(cmd *command) ([]byte, uint16) {
	return c.store(cmd, func(f *File, offset int) (int, uint16) {
		if offset != 0 {
			return 0, swWrongP1P2
		}
		return len(f.Body), swOK
	})
}

func (c *Card) store(cmd *command, place func(*File, int) (int, uint16)) ([]byte, uint16) {
	if !cmd.hasData {
		return nil, swWrongLength
	}
	f, offset, sw := c.transparent(cmd)
	if sw != swOK {
		return nil, sw
	}
	if offset, sw = place(f, offset); sw != swOK {
		return nil, sw
	}
	end := offset + len(cmd.data)
	if end > f.Size {
		return nil, swDataTooBig
	}
	if !c.write() {
		return nil, swMemoryFailure
	}
	body := slices.Clone(f.Body)
	if end > len(body) {
		body = append(body, make([]byte, end-len(body))...)
	}
	copy(body[offset:], cmd.data)
	f.Body = body
	return nil, swOK
}

// eraseBinary is ERASE BINARY: zeros from the offset to the logical end.
func (c *Card) eraseBinary(cmd *command) ([]byte, uint16) {
	return c.cut(cmd, func(f *File, offset int) {
		body := slices.Clone(f.Body)
		clear(body[offset:])
		f.Body = body
	})
}

// setLogicalEOF is SET LOGICAL EOF: the file ends at the offset.
func (c *Card) setLogicalEOF(cmd *command) ([]byte, uint16) {
	return c.cut(cmd, func(f *File, offset int) { f.Body = slices.Clone(f.Body[:offset]) })
}

func (c *Card) cut(cmd *command, change func(*File, int)) ([]byte, uint16) {
	if cmd.hasData {
		return nil, swWrongLength
	}
	f, offset, sw := c.transparent(cmd)
	switch {
	case sw != swOK:
		return nil, sw
	case offset > len(f.Body):
		return nil, swOffsetTooBig
	case !c.write():
		return nil, swMemoryFailure
	}
	change(f, offset)
	return nil, swOK
}

// recordMode is the low bits of P2 of a command for records.
const (
	oneRecord    = 4
	recordsFrom  = 5
	appendRecord = 0
)

// records finds the file of a command for records.
func (c *Card) records(cmd *command, modes ...byte) (*File, uint16) {
	if !slices.Contains(modes, cmd.p2&0x07) {
		return nil, swWrongP1P2
	}
	f := c.ch.ef
	if sfid := cmd.p2 >> 3; sfid != 0 {
		if sfid == 0x1F {
			return nil, swWrongP1P2
		}
		if f = c.ch.folder.bySFID(sfid); f == nil {
			return nil, swFileNotFound
		}
		c.ch.ef = f
	}
	switch {
	case f == nil:
		return nil, swNoCurrentEF
	case f.Structure == Transparent:
		return nil, swWrongFileType
	case !c.access(&f.Header, f.parent, cmd):
		return nil, swSecurityStatus
	}
	return f, swOK
}

// record finds the record a command names by its number in P1.
func (c *Card) record(cmd *command) (*File, int, uint16) {
	f, sw := c.records(cmd, oneRecord)
	if sw != swOK {
		return nil, 0, sw
	}
	n := int(cmd.p1)
	if n == 0 || n > len(f.Records) {
		return nil, 0, swRecordNotFound
	}
	if f.RecordState && f.Records[n-1].State != Activated {
		return nil, 0, swRecordDeactivated
	}
	return f, n - 1, swOK
}

// readRecord is READ RECORD.
func (c *Card) readRecord(cmd *command) ([]byte, uint16) {
	if cmd.hasData || !cmd.hasLe {
		return nil, swWrongLength
	}
	f, n, sw := c.record(cmd)
	if sw != swOK {
		return nil, sw
	}
	data := f.Records[n].Data
	if cmd.ne > len(data) && !cmd.wild {
		return data, swEndOfFile
	}
	return data[:min(len(data), cmd.ne)], swOK
}

// searchRecord is SEARCH RECORD: the numbers of the records from P1 on that
// contain the pattern.
func (c *Card) searchRecord(cmd *command) ([]byte, uint16) {
	if !cmd.hasData || !cmd.hasLe {
		return nil, swWrongLength
	}
	f, sw := c.records(cmd, oneRecord)
	if sw != swOK {
		return nil, sw
	}
	if cmd.p1 == 0 || int(cmd.p1) > len(f.Records) {
		return nil, swRecordNotFound
	}
	var hits []byte
	for i := int(cmd.p1) - 1; i < len(f.Records); i++ {
		r := f.Records[i]
		if (!f.RecordState || r.State == Activated) && bytes.Contains(r.Data, cmd.data) {
			hits = append(hits, byte(i+1))
		}
	}
	if hits == nil {
		return nil, swEndOfFile
	}
	return output(cmd, hits)
}

// fits checks the length of a new record content in place of old.
func (f *File) fits(data []byte, old int) uint16 {
	if f.Structure != LinearVariable {
		if len(data) != f.MaxRecord {
			return swWrongLength
		}
		return swOK
	}
	if len(data) > f.MaxRecord {
		return swWrongLength
	}
	used := len(data) - old
	for _, r := range f.Records {
		used += len(r.Data)
	}
	if used > f.Size {
		return swDataTooBig
	}
	return swOK
}

// updateRecord is UPDATE RECORD.
func (c *Card) updateRecord(cmd *command) ([]byte, uint16) {
	if !cmd.hasData {
		return nil, swWrongLength
	}
	f, n, sw := c.record(cmd)
	if sw != swOK {
		return nil, sw
	}
	if sw := f.fits(cmd.data, len(f.Records[n].Data)); sw != swOK {
		return nil, sw
	}
	if !c.write() {
		return nil, swMemoryFailure
	}
	f.Records[n].Data = slices.Clone(cmd.data)
	return nil, swOK
}

// appendRecord is APPEND RECORD. In a cyclic file the new record becomes
// number 1 and, when the file is full, the oldest one is lost.
func (c *Card) appendRecord(cmd *command) ([]byte, uint16) {
	if !cmd.hasData {
		return nil, swWrongLength
	}
	if cmd.p1 != 0 {
		return nil, swWrongP1P2
	}
	f, sw := c.records(cmd, appendRecord)
	if sw != swOK {
		return nil, sw
	}
	if sw := f.fits(cmd.data, 0); sw != swOK {
		return nil, sw
	}
	full := len(f.Records) >= f.MaxRecords
	if full && f.Structure != Cyclic {
		return nil, swDataTooBig
	}
	if !c.write() {
		return nil, swMemoryFailure
	}
	r := Record{Data: slices.Clone(cmd.data)}
	if f.Structure != Cyclic {
		f.Records = append(f.Records, r)
		return nil, swOK
	}
	if full {
		f.Records = f.Records[:f.MaxRecords-1]
	}
	f.Records = append([]Record{r}, f.Records...)
	return nil, swOK
}

// changeRecord is the common part of commands that change one record.
func (c *Card) changeRecord(cmd *command, change func(*File, int)) ([]byte, uint16) {
	if cmd.hasData {
		return nil, swWrongLength
	}
	f, n, sw := c.record(cmd)
	switch {
	case sw != swOK:
		return nil, sw
	case !c.write():
		return nil, swMemoryFailure
	}
	change(f, n)
	return nil, swOK
}

// eraseRecord is ERASE RECORD: zeros; a record of variable length becomes empty.
func (c *Card) eraseRecord(cmd *command) ([]byte, uint16) {
	return c.changeRecord(cmd, func(f *File, n int) {
		if f.Structure == LinearVariable {
			f.Records[n].Data = nil
			return
		}
		f.Records[n].Data = make([]byte, len(f.Records[n].Data))
	})
}

// deleteRecord is DELETE RECORD: the following records get lower numbers.
func (c *Card) deleteRecord(cmd *command) ([]byte, uint16) {
	return c.changeRecord(cmd, func(f *File, n int) { f.Records = slices.Delete(f.Records, n, n+1) })
}

// activateRecord is ACTIVATE RECORD, deactivateRecord DEACTIVATE RECORD.
func (c *Card) activateRecord(cmd *command) ([]byte, uint16) {
	return c.setRecordState(cmd, Activated)
}

func (c *Card) deactivateRecord(cmd *command) ([]byte, uint16) {
	return c.setRecordState(cmd, Deactivated)
}

func (c *Card) setRecordState(cmd *command, state LifeCycle) ([]byte, uint16) {
	if cmd.hasData {
		return nil, swWrongLength
	}
	f, sw := c.records(cmd, oneRecord, recordsFrom)
	n := int(cmd.p1)
	switch {
	case sw != swOK:
		return nil, sw
	case !f.RecordState:
		return nil, swConditions
	case n == 0 || n > len(f.Records):
		return nil, swRecordNotFound
	case !c.write():
		return nil, swMemoryFailure
	}
	last := n
	if cmd.p2&0x07 == recordsFrom {
		last = len(f.Records)
	}
	for i := n - 1; i < last; i++ {
		f.Records[i].State = state
	}
	return nil, swOK
}

// target finds the object that ACTIVATE, DEACTIVATE, TERMINATE and DELETE
// work on: the current file or folder, a password, a key or a public key.
func (c *Card) target(cmd *command) (h *Header, parent *Folder, o Object, sw uint16) {
	if cmd.p1 != 0x21 && cmd.hasData {
		return nil, nil, nil, swWrongLength
	}
	switch {
	case cmd.p1 == 0 && cmd.p2 == 0 && c.ch.ef != nil:
		return &c.ch.ef.Header, c.ch.ef.parent, c.ch.ef, swOK
	case cmd.p1 == 0 && cmd.p2 == 0:
		return &c.ch.folder.Header, c.ch.folder.parent, c.ch.folder, swOK
	case cmd.p1 == 0x10:
		if p := c.password(cmd.p2, c.ch.folder); p != nil {
			return p.header(), p.folder, p.object(), swOK
		}
	case cmd.p1 == 0x20:
		if o, d := c.key(cmd.p2); o != nil {
			return o.header(), d, o, swOK
		}
	case cmd.p1 == 0x21 && cmd.p2 == 0:
		ref, err := onlyTLV(cmd.data, 0x83)
		if err != nil {
			return nil, nil, nil, swWrongLength
		}
		if k := c.publicKey(ref); k != nil {
			return &k.Header, c.sys.Root, k, swOK
		}
	default:
		return nil, nil, nil, swWrongP1P2
	}
	return nil, nil, nil, swNotFound
}

func (c *Card) activate(cmd *command) ([]byte, uint16)   { return c.setState(cmd, Activated) }
func (c *Card) deactivate(cmd *command) ([]byte, uint16) { return c.setState(cmd, Deactivated) }
func (c *Card) terminate(cmd *command) ([]byte, uint16)  { return c.setState(cmd, Terminated) }

// setState is ACTIVATE, DEACTIVATE and TERMINATE.
func (c *Card) setState(cmd *command, state LifeCycle) ([]byte, uint16) {
	h, parent, o, sw := c.target(cmd)
	if sw != swOK {
		return nil, sw
	}
	if !c.objectAccess(h, parent, o, cmd) {
		return nil, swSecurityStatus
	}
	if k, ok := o.(*PublicKey); ok && k.cached {
		return nil, swWrongFileType // VolatileKeyWithoutLcs
	}
	if h.State == Terminated {
		return nil, swKeyInvalid // ObjectTerminated
	}
	if !c.write() {
		return nil, swMemoryFailure
	}
	h.State = state
	return nil, swOK
}

func (c *Card) objectAccess(h *Header, parent *Folder, o Object, cmd *command) bool {
	if d, ok := o.(*Folder); ok {
		return c.folderAccess(d, cmd)
	}
	return c.access(h, parent, cmd)
}

// remove is DELETE.
func (c *Card) remove(cmd *command) ([]byte, uint16) {
	h, parent, o, sw := c.target(cmd)
	if sw != swOK {
		return nil, sw
	}
	if parent == nil || !c.objectAccess(h, parent, o, cmd) {
		return nil, swSecurityStatus
	}
	if !c.write() {
		return nil, swMemoryFailure
	}
	c.cache = slices.DeleteFunc(c.cache, func(k *PublicKey) bool { return Object(k) == o })
	parent.Children = slices.DeleteFunc(parent.Children, func(x Object) bool { return x == o })
	if _, ok := o.(*Folder); ok {
		c.enter(parent)
	}
	if Object(c.ch.ef) == o {
		c.ch.ef = nil
	}
	return nil, swOK
}

// loadApplication is LOAD APPLICATION: after the access rule, which only the
// card's issuer satisfies, the card has no room for more.
func (c *Card) loadApplication(cmd *command) ([]byte, uint16) {
	if !c.folderAccess(c.ch.folder, cmd) {
		return nil, swSecurityStatus
	}
	return nil, swUnsupportedFunction
}
