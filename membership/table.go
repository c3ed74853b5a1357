package membership

import (
	"iter"
	"maps"
	"slices"

	"cairn"
)

// table holds the rows of all volumes in little memory: some 40 bytes for six slots, so that two million volumes fit into
// every process. It is immutable; with makes a changed copy that shares all pages but those that changed.
//
// Volume IDs are given out without gaps, so a row is found by its number. Drives and shapes are numbers, too.
type table struct {
	pages  []*tablePage
	shapes []shape
	drives []cairn.DriveID // by number
	number map[cairn.DriveID]uint32
	open   map[cairn.VolumeID]cairn.Volume // those that take blobs, for Pick
	count  int
}

// shape is what volumes have in common.
type shape struct {
	profile cairn.Profile
	unit    int64
}

const pageRows = 512 // with 64 slots each, offsets still fit into 16 bits

type tablePage struct {
	rows  [pageRows]tableRow
	slots []uint32 // drives of all rows' slots
}

type tableRow struct {
	epoch cairn.Epoch
	at    uint16 // of its first slot
	shape uint16
	state cairn.VolumeState
	n     uint8 // slots; 0: there is no such volume
}

func (t *table) row(id cairn.VolumeID) (p *tablePage, r *tableRow) {
	if page := uint64(id) / pageRows; page < uint64(len(t.pages)) && t.pages[page] != nil {
		p = t.pages[page]
		if r = &p.rows[id%pageRows]; r.n > 0 {
			return p, r
		}
	}
	return nil, nil
}

// get returns a volume's row; its slots are the caller's.
func (t *table) get(id cairn.VolumeID) (cairn.Volume, bool) {
	p, r := t.row(id)
	if r == nil {
		return cairn.Volume{}, false
	}
	return t.expand(id, p, r), true
}

func (t *table) expand(id cairn.VolumeID, p *tablePage, r *tableRow) cairn.Volume {
	sh := t.shapes[r.shape]
	v := cairn.Volume{ID: id, Profile: sh.profile, Unit: sh.unit, Epoch: r.epoch, State: r.state, Slots: make([]cairn.DriveID, r.n)}
	for i, d := range p.slots[r.at : int(r.at)+int(r.n)] {
		v.Slots[i] = t.drives[d]
	}
	return v
}

// all walks the volumes in the order of their IDs.
func (t *table) all() iter.Seq[cairn.Volume] {
	return t.on(nil)
}

// on walks the volumes with a slot on one of the drives that have a mark; nil marks all.
func (t *table) on(marked []bool) iter.Seq[cairn.Volume] {
	return func(yield func(cairn.Volume) bool) {
		for page, p := range t.pages {
			if p == nil {
				continue
			}
			for i := range p.rows {
				r := &p.rows[i]
				if r.n == 0 || marked != nil && !slices.ContainsFunc(p.slots[r.at:int(r.at)+int(r.n)], func(d uint32) bool { return marked[d] }) {
					continue
				}
				if !yield(t.expand(cairn.VolumeID(page*pageRows+i), p, r)) {
					return
				}
			}
		}
	}
}

// marks returns a mark for every drive that f is true for.
func (t *table) marks(f func(cairn.DriveID) bool) (marked []bool, some bool) {
	marked = make([]bool, len(t.drives))
	for i, id := range t.drives {
		if f(id) {
			marked[i], some = true, true
		}
	}
	return marked, some
}

// with returns a table with rows put in, unless a newer one is there: of a later epoch, or sealed under the same (a volume
// is never opened again).
func (t *table) with(rows []cairn.Volume) *table {
	next := *t
	next.pages, next.open = slices.Clone(t.pages), maps.Clone(t.open)
	e := tableEdit{table: &next, own: map[uint64]bool{}}
	for _, v := range rows {
		if _, r := next.row(v.ID); r != nil && (r.epoch > v.Epoch || r.epoch == v.Epoch && r.state > v.State) {
			continue
		}
		e.put(v)
	}
	return &next
}

// tableEdit is a table that is being made out of another, and what of it is not shared any more.
type tableEdit struct {
	*table
	own    map[uint64]bool // pages
	number bool
	shapes bool
}

func (e *tableEdit) put(v cairn.Volume) {
	at := uint64(v.ID) / pageRows
	p := e.page(at)
	r := &p.rows[v.ID%pageRows]
	if r.n == 0 {
		e.count++
	}
	if int(r.n) != len(v.Slots) { // new, or of another width
		r.n, r.at = 0, 0
		p.pack()
		r.at, r.n = uint16(len(p.slots)), uint8(len(v.Slots))
		p.slots = append(p.slots, make([]uint32, len(v.Slots))...)
	}
	r.epoch, r.state, r.shape = v.Epoch, v.State, e.shapeOf(v)
	for i, id := range v.Slots {
		p.slots[int(r.at)+i] = e.driveOf(id)
	}
	if v.State == cairn.VolumeOpen {
		e.open[v.ID] = v
	} else {
		delete(e.open, v.ID)
	}
}

// page returns a page that may be changed.
func (e *tableEdit) page(at uint64) *tablePage {
	for uint64(len(e.table.pages)) <= at {
		e.table.pages = append(e.table.pages, nil)
	}
	p := e.table.pages[at]
	if !e.own[at] {
		if p == nil {
			p = &tablePage{}
		} else {
			p = &tablePage{rows: p.rows, slots: slices.Clone(p.slots)}
		}
		e.table.pages[at], e.own[at] = p, true
	}
	return p
}

// pack closes the gaps that rows of another width left.
func (p *tablePage) pack() {
	used := 0
	for i := range p.rows {
		used += int(p.rows[i].n)
	}
	if used == len(p.slots) {
		return
	}
	slots := make([]uint32, 0, used)
	for i := range p.rows {
		if r := &p.rows[i]; r.n > 0 {
			at := len(slots)
			slots = append(slots, p.slots[r.at:int(r.at)+int(r.n)]...)
			r.at = uint16(at)
		}
	}
	p.slots = slots
}

func (e *tableEdit) shapeOf(v cairn.Volume) uint16 {
	sh := shape{v.Profile, v.Unit}
	if i := slices.Index(e.table.shapes, sh); i >= 0 {
		return uint16(i)
	}
	if !e.shapes {
		e.table.shapes, e.shapes = slices.Clone(e.table.shapes), true
	}
	e.table.shapes = append(e.table.shapes, sh)
	return uint16(len(e.table.shapes) - 1)
}

func (e *tableEdit) driveOf(id cairn.DriveID) uint32 {
	n, ok := e.table.number[id]
	if !ok {
		if !e.number {
			e.table.number, e.table.drives, e.number = maps.Clone(e.table.number), slices.Clone(e.table.drives), true
		}
		n = uint32(len(e.table.drives))
		e.table.drives = append(e.table.drives, id)
		e.table.number[id] = n
	}
	return n
}

func newTable() *table {
	return &table{number: map[cairn.DriveID]uint32{}, open: map[cairn.VolumeID]cairn.Volume{}}
}
