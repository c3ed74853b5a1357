// Package membershiptest helps to test what works on volumes, drives and damage: Meta keeps their rows in memory, Node
// is a set of drives whose states a test sets.
package membershiptest

import (
	"bytes"
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"cairn"
)

// Meta keeps in memory the rows that membership, repair and scrub need of the metadata service, with the same rules. It
// is safe for concurrent use; the zero value is ready.
type Meta struct {
	// Fault, if set before use, is asked before each operation, by its name; its error fails the operation.
	Fault func(ctx context.Context, op string) error

	mu       sync.Mutex
	volumes  map[cairn.VolumeID]cairn.Volume
	drives   map[cairn.DriveID]cairn.Drive
	blobs    map[cairn.VolumeID]map[cairn.BlobID]cairn.BlobRow
	damage   map[cairn.ShardID]cairn.Damage
	configs  map[string][]byte
	findings []cairn.Finding
	nodes    map[cairn.NodeID]cairn.Node
	changed  map[cairn.VolumeID]cairn.Epoch // epoch of the map at a volume's last change
	epoch    cairn.Epoch
	leases   []lease
	nextID   cairn.BlobID
	mark     cairn.BlobID
}

type lease struct {
	first cairn.BlobID
	time  time.Time
}

func (m *Meta) begin(ctx context.Context, op string) error {
	if m.Fault != nil {
		if err := m.Fault(ctx, op); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return &cairn.Error{Op: "membershiptest." + op, Err: cairn.ErrCanceled}
	}
	m.mu.Lock()
	if m.volumes == nil {
		m.volumes = map[cairn.VolumeID]cairn.Volume{}
		m.drives = map[cairn.DriveID]cairn.Drive{}
		m.blobs = map[cairn.VolumeID]map[cairn.BlobID]cairn.BlobRow{}
		m.damage = map[cairn.ShardID]cairn.Damage{}
		m.configs = map[string][]byte{}
		m.nodes = map[cairn.NodeID]cairn.Node{}
		m.changed = map[cairn.VolumeID]cairn.Epoch{}
		m.nextID, m.mark = 1, 1
	}
	return nil
}

// CreateVolume assigns the next ID.
func (m *Meta) CreateVolume(ctx context.Context, v cairn.Volume) (cairn.Volume, error) {
	if err := m.begin(ctx, "CreateVolume"); err != nil {
		return v, err
	}
	defer m.mu.Unlock()
	v.ID, v.Epoch, v.Slots = cairn.VolumeID(len(m.volumes)+1), 1, slices.Clone(v.Slots)
	m.put(v)
	return v, nil
}

func (m *Meta) put(v cairn.Volume) {
	m.epoch++
	m.volumes[v.ID], m.changed[v.ID] = v, m.epoch
}

// MapEpoch counts changes.
func (m *Meta) MapEpoch(ctx context.Context) (cairn.Epoch, error) {
	if err := m.begin(ctx, "MapEpoch"); err != nil {
		return 0, err
	}
	defer m.mu.Unlock()
	return m.epoch, nil
}

// ChangedVolumes returns a page of what changed.
func (m *Meta) ChangedVolumes(ctx context.Context, since cairn.Epoch, max int) ([]cairn.Volume, cairn.Epoch, error) {
	if err := m.begin(ctx, "ChangedVolumes"); err != nil {
		return nil, 0, err
	}
	defer m.mu.Unlock()
	var page []cairn.Volume
	for id, at := range m.changed {
		if at > since {
			page = append(page, m.volumes[id])
		}
	}
	slices.SortFunc(page, func(a, b cairn.Volume) int { return cmp.Compare(m.changed[a.ID], m.changed[b.ID]) })
	if len(page) < max {
		return page, m.epoch, nil
	}
	return page[:max], m.changed[page[max-1].ID], nil
}

// Volume returns a row.
func (m *Meta) Volume(ctx context.Context, id cairn.VolumeID) (cairn.Volume, error) {
	if err := m.begin(ctx, "Volume"); err != nil {
		return cairn.Volume{}, err
	}
	defer m.mu.Unlock()
	v, ok := m.volumes[id]
	if !ok {
		return v, &cairn.Error{Op: "membershiptest.volume", Subject: id.String(), Err: cairn.ErrNotFound}
	}
	return v, nil
}

// Volumes returns a page of rows.
func (m *Meta) Volumes(ctx context.Context, after cairn.VolumeID, max int) ([]cairn.Volume, error) {
	if err := m.begin(ctx, "Volumes"); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	var page []cairn.Volume
	for _, id := range slices.Sorted(maps.Keys(m.volumes)) {
		if id > after && len(page) < max {
			page = append(page, m.volumes[id])
		}
	}
	return page, nil
}

// SealVolume seals a volume.
func (m *Meta) SealVolume(ctx context.Context, id cairn.VolumeID) error {
	if err := m.begin(ctx, "SealVolume"); err != nil {
		return err
	}
	defer m.mu.Unlock()
	v := m.volumes[id]
	v.State = cairn.VolumeSealed
	m.put(v)
	return nil
}

// SwapSlot changes a slot and raises the epoch.
func (m *Meta) SwapSlot(ctx context.Context, r cairn.SwapSlot) (cairn.Volume, error) {
	if err := m.begin(ctx, "SwapSlot"); err != nil {
		return cairn.Volume{}, err
	}
	defer m.mu.Unlock()
	v, ok := m.volumes[r.Volume]
	if !ok || v.Epoch != r.Epoch || v.Slots[r.Slot] != r.Old || r.New != r.Old && slices.Contains(v.Slots, r.New) {
		return v, &cairn.Error{Op: "membershiptest.swap", Subject: r.Volume.String(), Err: cairn.ErrPrecondition}
	}
	v.Slots = slices.Clone(v.Slots)
	v.Slots[r.Slot] = r.New
	v.Epoch++
	m.put(v)
	return v, nil
}

// VolumeStats counts blobs.
func (m *Meta) VolumeStats(ctx context.Context, id cairn.VolumeID) (blobs, bytes int64, err error) {
	if err := m.begin(ctx, "VolumeStats"); err != nil {
		return 0, 0, err
	}
	defer m.mu.Unlock()
	for _, row := range m.blobs[id] {
		blobs++
		bytes += row.Ref.Length
	}
	return blobs, bytes, nil
}

// Drives returns all rows.
func (m *Meta) Drives(ctx context.Context) ([]cairn.Drive, error) {
	if err := m.begin(ctx, "Drives"); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	return slices.Collect(maps.Values(m.drives)), nil
}

// PutDrives writes rows.
func (m *Meta) PutDrives(ctx context.Context, ds []cairn.Drive) error {
	if err := m.begin(ctx, "PutDrives"); err != nil {
		return err
	}
	defer m.mu.Unlock()
	for _, d := range ds {
		d.Draining = m.drives[d.ID].Draining // SetDraining's alone
		m.drives[d.ID] = d
		m.epoch++
	}
	return nil
}

// ReserveBlobIDs leases a range.
func (m *Meta) ReserveBlobIDs(ctx context.Context, n uint64) (cairn.BlobID, error) {
	if err := m.begin(ctx, "ReserveBlobIDs"); err != nil {
		return 0, err
	}
	defer m.mu.Unlock()
	first := m.nextID
	m.nextID += cairn.BlobID(n)
	m.leases = append(m.leases, lease{first, time.Now()})
	return first, nil
}

// AdvanceOrphanWatermark raises the watermark to the first ID of the oldest lease that is not older than the time.
func (m *Meta) AdvanceOrphanWatermark(ctx context.Context, leasedBefore time.Time) (cairn.BlobID, error) {
	if err := m.begin(ctx, "AdvanceOrphanWatermark"); err != nil {
		return 0, err
	}
	defer m.mu.Unlock()
	mark := m.nextID
	for _, l := range slices.Backward(m.leases) {
		if l.time.Before(leasedBefore) {
			break
		}
		mark = l.first
	}
	m.mark = max(m.mark, mark)
	return m.mark, nil
}

// Commit refers to blobs as a version's commit does: its skipped slots become damage. It fails with ErrStaleEpoch for a
// blob that was written before its volume changed, ErrPrecondition for one below the watermark.
func (m *Meta) Commit(ctx context.Context, owner string, blobs ...cairn.NewBlob) error {
	if err := m.begin(ctx, "Commit"); err != nil {
		return err
	}
	defer m.mu.Unlock()
	for _, b := range blobs {
		switch {
		case b.Epoch != m.volumes[b.Ref.Volume].Epoch:
			return &cairn.Error{Op: "membershiptest.commit", Subject: b.Ref.String(), Err: cairn.ErrStaleEpoch}
		case b.Ref.Blob < m.mark:
			return &cairn.Error{Op: "membershiptest.commit", Subject: b.Ref.String(), Err: cairn.ErrPrecondition}
		}
	}
	for _, b := range blobs {
		rows, ok := m.blobs[b.Ref.Volume]
		if !ok {
			rows = map[cairn.BlobID]cairn.BlobRow{}
			m.blobs[b.Ref.Volume] = rows
		}
		rows[b.Ref.Blob] = cairn.BlobRow{Ref: b.Ref, Count: 1, Owner: owner}
		for _, slot := range b.Skipped {
			id := cairn.ShardID{Volume: b.Ref.Volume, Blob: b.Ref.Blob, Slot: slot}
			m.damage[id] = cairn.Damage{Shard: id, Kind: cairn.DamageSkipped, Found: time.Now(), By: "write"}
		}
	}
	return nil
}

// Release drops the references of blobs.
func (m *Meta) Release(refs ...cairn.BlobRef) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, ref := range refs {
		delete(m.blobs[ref.Volume], ref.Blob)
	}
}

// Blobs returns a page of reference rows.
func (m *Meta) Blobs(ctx context.Context, v cairn.VolumeID, after cairn.BlobID, max int) ([]cairn.BlobRow, error) {
	if err := m.begin(ctx, "Blobs"); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	var page []cairn.BlobRow
	for _, row := range m.blobs[v] {
		if row.Ref.Blob > after {
			page = append(page, row)
		}
	}
	slices.SortFunc(page, func(a, b cairn.BlobRow) int { return cmp.Compare(a.Ref.Blob, b.Ref.Blob) })
	return page[:min(max, len(page))], nil
}

// BlobRefs tells which blobs are referred to.
func (m *Meta) BlobRefs(ctx context.Context, refs []cairn.BlobRef) ([]bool, error) {
	if err := m.begin(ctx, "BlobRefs"); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	wanted := make([]bool, len(refs))
	for i, ref := range refs {
		_, wanted[i] = m.blobs[ref.Volume][ref.Blob]
	}
	return wanted, nil
}

// AddDamage records findings that are not there yet.
func (m *Meta) AddDamage(ctx context.Context, found []cairn.Damage) error {
	if err := m.begin(ctx, "AddDamage"); err != nil {
		return err
	}
	defer m.mu.Unlock()
	for _, d := range found {
		if _, ok := m.damage[d.Shard]; !ok {
			m.damage[d.Shard] = d
		}
	}
	return nil
}

// Damage returns up to max rows, by volume, blob and slot.
func (m *Meta) Damage(ctx context.Context, max int) ([]cairn.Damage, error) {
	if err := m.begin(ctx, "Damage"); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	rows := slices.Collect(maps.Values(m.damage))
	slices.SortFunc(rows, func(a, b cairn.Damage) int {
		return cmp.Or(cmp.Compare(a.Shard.Volume, b.Shard.Volume), cmp.Compare(a.Shard.Blob, b.Shard.Blob),
			cmp.Compare(a.Shard.Slot, b.Shard.Slot))
	})
	return rows[:min(max, len(rows))], nil
}

// ResolveDamage removes rows and remembers what became of them.
func (m *Meta) ResolveDamage(ctx context.Context, outcome cairn.Outcome, done []cairn.ShardID) error {
	if err := m.begin(ctx, "ResolveDamage"); err != nil {
		return err
	}
	defer m.mu.Unlock()
	for _, id := range done {
		if d, ok := m.damage[id]; ok {
			m.findings = append(m.findings, d.Finding(outcome, time.Now()))
		}
		delete(m.damage, id)
	}
	return nil
}

// AddFindings remembers findings that are no damage to be repaired.
func (m *Meta) AddFindings(ctx context.Context, list []cairn.Finding) error {
	if err := m.begin(ctx, "AddFindings"); err != nil {
		return err
	}
	defer m.mu.Unlock()
	m.findings = append(m.findings, list...)
	return nil
}

// TrimFindings keeps the last ones.
func (m *Meta) TrimFindings(ctx context.Context, keep int) error {
	if err := m.begin(ctx, "TrimFindings"); err != nil {
		return err
	}
	defer m.mu.Unlock()
	m.findings = m.findings[max(0, len(m.findings)-keep):]
	return nil
}

// Findings returns what is resolved, oldest first.
func (m *Meta) Findings() []cairn.Finding {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.findings)
}

// RetryDamage replaces a row that is there.
func (m *Meta) RetryDamage(ctx context.Context, d cairn.Damage) error {
	if err := m.begin(ctx, "RetryDamage"); err != nil {
		return err
	}
	defer m.mu.Unlock()
	if _, ok := m.damage[d.Shard]; ok {
		m.damage[d.Shard] = d
	}
	return nil
}

// PutConfig keeps a named row.
func (m *Meta) PutConfig(ctx context.Context, name string, value []byte) error {
	if err := m.begin(ctx, "PutConfig"); err != nil {
		return err
	}
	defer m.mu.Unlock()
	m.configs[name] = slices.Clone(value)
	return nil
}

// Config returns a named row.
func (m *Meta) Config(ctx context.Context, name string) ([]byte, error) {
	if err := m.begin(ctx, "Config"); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	b, ok := m.configs[name]
	if !ok {
		return nil, &cairn.Error{Op: "membershiptest.config", Subject: name, Err: cairn.ErrNotFound}
	}
	return b, nil
}

// Nodes returns all rows, ordered by ID.
func (m *Meta) Nodes(ctx context.Context) ([]cairn.Node, error) {
	if err := m.begin(ctx, "Nodes"); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	rows := slices.Collect(maps.Values(m.nodes))
	slices.SortFunc(rows, func(a, b cairn.Node) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	return rows, nil
}

// PutNode writes a row whose epoch is the committed one's, and keeps its history.
func (m *Meta) PutNode(ctx context.Context, n cairn.Node) (cairn.Node, error) {
	if err := m.begin(ctx, "PutNode"); err != nil {
		return n, err
	}
	defer m.mu.Unlock()
	old, found := m.nodes[n.ID]
	if old.Epoch != n.Epoch {
		return n, &cairn.Error{Op: "membershiptest.put node", Subject: n.ID.String(), Err: cairn.ErrPrecondition}
	}
	n.History = slices.Clone(old.History)
	if !found || old.State != n.State {
		n.History = append(n.History, cairn.NodeChange{State: n.State, At: n.StateSince, Reason: n.Reason})
		n.History = n.History[max(0, len(n.History)-cairn.MaxNodeHistory):]
	}
	n.Epoch++
	m.epoch++
	m.nodes[n.ID] = n
	return n, nil
}

// SetDraining marks a drive that is being emptied.
func (m *Meta) SetDraining(ctx context.Context, id cairn.DriveID, draining bool) error {
	if err := m.begin(ctx, "SetDraining"); err != nil {
		return err
	}
	defer m.mu.Unlock()
	d, ok := m.drives[id]
	if !ok {
		return &cairn.Error{Op: "membershiptest.SetDraining", Subject: id.String(), Err: cairn.ErrNotFound}
	}
	d.Draining = draining
	m.epoch++
	m.drives[id] = d
	return nil
}
