package meta

import (
	"bytes"
	"reflect"
	"slices"
	"testing"
	"time"

	"cairn"
)

func sampleVersion() cairn.Version {
	return cairn.Version{ID: 7, Null: true, Size: 300, Modified: time.Unix(1e9, 5).UTC(), Owner: "me",
		ETag: "9e107d9d372bb6826bd81d3542a419d6-12", Class: "COLD",
		Checksums: []cairn.Checksum{{Algo: cairn.CRC64NVME, Value: []byte{1, 2, 3}}, {Algo: "NEW", Value: []byte{4}, Parts: 3}},
		Headers:   map[string]string{"Content-Type": "a/b", "X-Amz-Meta-": ""}, Tags: map[string]string{"": "v"},
		Lock:   cairn.Lock{Mode: cairn.LockGovernance, Until: time.Unix(2e9, 7).UTC(), Hold: cairn.HoldOff},
		Parts:  []cairn.PartInfo{{Number: 1, Size: 100, Checksums: []cairn.Checksum{{Algo: cairn.SHA1, Value: []byte{9}}}}, {Number: 2}},
		Layout: cairn.Layout{Blobs: []cairn.BlobRef{{Volume: 1, Blob: 2, Length: 3}, {Volume: 1 << 60, Blob: 1 << 62, Length: 1 << 26}}}}
}

func TestVersionRow(t *testing.T) {
	for _, etag := range []string{"", "9e107d9d372bb6826bd81d3542a419d6", "9e107d9d372bb6826bd81d3542a419d6-0", "9E107d9d372bb6826bd81d3542a419d6",
		"9e107d9d372bb6826bd81d3542a419d6-007", "9e107d9d372bb6826bd81d3542a419d6-", "anything", "00"} {
		v := sampleVersion()
		v.ETag = etag
		r := versionRow{v: v, pages: 3, upload: "u", inline: true, tags: encodeTags(v.Tags)}
		r.detail, _ = encodeDetail(&v)
		got, err := decodeVersion(r.encode())
		if err != nil || got.pages != 3 || got.upload != "u" || !got.inline {
			t.Fatalf("%q: %+v, %v", etag, got, err)
		}
		if got.v.Tags, err = decodeTags(got.tags); err != nil {
			t.Fatal(err)
		}
		if err := decodeDetail(got.detail, &got.v); err != nil || !reflect.DeepEqual(got.v, v) {
			t.Errorf("%q: got %+v, %v; want %+v", etag, got.v, err, v)
		}
		var p Page
		p.Versions = make([]Listed, 0, 1)
		err = (&lister{page: &p}).add([]byte("key"), r.encode())
		if l := p.Versions[0]; err != nil || l.Key != "key" || l.ETag() != etag || l.Size != v.Size || !l.Modified().Equal(v.Modified) ||
			l.Owner != v.Owner || l.Class != v.Class || l.Checksum().Algo != v.Checksums[0].Algo {
			t.Errorf("%q: listed as %+v, %v", etag, l, err)
		}
	}
}

// Keys sort as the object keys do, whatever bytes they hold, and read back.
func TestEscapedKeys(t *testing.T) {
	keys := []string{"", "\x00", "\x00\x00", "\x00\x01", "\x00\xff", "\x01", "a", "a\x00", "a\x00\x00b", "a\x01", "ab", "b", "\xff", "\xff\xff"}
	if !slices.IsSorted(keys) {
		t.Fatal("the table is not sorted")
	}
	for i, k := range keys {
		e := appendID(appendEscaped(nil, k), ^uint64(0))
		got, rest, ok := cutEscaped(e)
		if !ok || got != k || len(rest) != 8 {
			t.Errorf("%q reads back as %q, %x, %v", k, got, rest, ok)
		}
		if i > 0 && bytes.Compare(appendID(appendEscaped(nil, keys[i-1]), ^uint64(0)), appendEscaped(nil, k)) >= 0 {
			t.Errorf("%q does not sort before %q", keys[i-1], k)
		}
	}
}

func FuzzDecode(f *testing.F) {
	v := sampleVersion()
	r := versionRow{v: v}
	r.detail, _ = encodeDetail(&v)
	f.Add(r.encode())
	f.Add(r.detail)
	f.Add(encodePart(&cairn.Part{Number: 3, Size: 5, ETag: "x", Layout: v.Layout, Checksums: v.Checksums}))
	f.Add(encodeBucket(&cairn.Bucket{Name: "n", ID: 4, Configs: cairn.Configs{"cors": "x"}, Profile: cairn.Profile{K: 4, M: 2}}))
	f.Add(encodeVolume(&cairn.Volume{Profile: cairn.Profile{K: 1}, Slots: []cairn.DriveID{{1}}, Unit: 1, Epoch: 3}))
	f.Add(encodeDrive(&cairn.Drive{Path: "p", Domains: []string{"a", ""}}))
	f.Add(encodeNode(&cairn.Node{Name: "n", Addr: "a:1", Roles: cairn.AllRoles, Epoch: 2, JoinedAt: time.Unix(1, 0)}))
	f.Add(encodeToken(&Token{Roles: 1, Created: time.Unix(1, 0), Used: time.Unix(2, 0), Expires: time.Unix(3, 0)}))
	f.Add(encodeDamage(&cairn.Damage{Note: "n", Tries: 4}))
	f.Fuzz(func(t *testing.T, row []byte) {
		// None may panic; what decodes must encode to something that decodes alike.
		if r, err := decodeVersion(row); err == nil {
			again, err := decodeVersion(r.encode())
			if err != nil || again.v.ETag != r.v.ETag || again.v.ID != r.v.ID || !bytes.Equal(again.detail, r.detail) {
				t.Errorf("version %+v encodes as %+v, %v", r, again, err)
			}
		}
		p := Page{Versions: make([]Listed, 0, 1)}
		if (&lister{page: &p}).add(nil, row) == nil {
			p.Versions[0].ETag()
			p.Versions[0].Checksum()
		}
		var d cairn.Version
		if decodeDetail(row, &d) == nil {
			b, _ := encodeDetail(&d)
			var again cairn.Version
			if err := decodeDetail(b, &again); err != nil || len(again.Parts) != len(d.Parts) || len(again.Layout.Blobs) != len(d.Layout.Blobs) {
				t.Errorf("detail %+v encodes as %+v, %v", d, again, err)
			}
		}
		decodePart(row)
		decodeBucket(row)
		decodeUpload(row)
		decodeBlob(cairn.BlobRef{}, row)
		decodeGarbage(cairn.BlobRef{}, row)
		decodeVolume(1, row)
		decodeDrive(cairn.DriveID{}, row)
		decodeNode(cairn.NodeID{}, row)
		decodeToken([32]byte{}, row)
		decodeDamage(cairn.ShardID{}, row)
		decodeLease(row)
		if key, rest, ok := cutEscaped(row); ok && !bytes.Equal(append(appendEscaped(nil, key), rest...), row) {
			t.Errorf("escaped key %q does not encode back", key)
		}
	})
}

// BenchmarkDecodeVersion is what a listing does per row.
func BenchmarkDecodeVersion(b *testing.B) {
	v := sampleVersion()
	v.ETag, v.Checksums = "9e107d9d372bb6826bd81d3542a419d6", v.Checksums[:1]
	r := versionRow{v: v}
	r.detail, _ = encodeDetail(&v)
	row := r.encode()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := decodeVersion(row); err != nil {
			b.Fatal(err)
		}
	}
}

func TestDamageRowKeepsProgress(t *testing.T) {
	want := cairn.Damage{Shard: cairn.ShardID{Volume: 3, Slot: 2}, Kind: cairn.DamageSlot, Drive: cairn.NewID(), Found: time.Unix(5, 6).UTC(),
		By: "drive", Note: "gone", Tries: 3, To: cairn.NewID(), RetryAt: time.Unix(7, 8).UTC(),
		Pass: cairn.SlotPass{Epoch: 4, To: cairn.NewID(), After: 900, Blobs: 12, Bytes: 1 << 40}}
	got, err := decodeDamage(want.Shard, encodeDamage(&want))
	if err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

func TestJobRowRoundTrip(t *testing.T) {
	want := cairn.Job{ID: 7, Kind: cairn.JobDrain, Subject: "d", Created: time.Unix(1, 2).UTC(), Wish: cairn.WishPause,
		Progress: cairn.Progress{State: cairn.JobPaused, Reason: "r", Started: time.Unix(3, 0).UTC(), Finished: time.Unix(4, 0).UTC(),
			DoneBytes: 5, TotalBytes: 6, DoneBlobs: 7, TotalBlobs: 8, RateBytesPerSec: 9, ETA: 10, LastError: "e"}}
	if got, err := decodeJob(7, encodeJob(&want)); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

// Rows of plain profiles are what they were before there were local ones, byte for byte.
func TestVolumeAndBucketRowsKeepProfiles(t *testing.T) {
	old := putInt(putUint(putUint(nil, 1, 4), 2, 2), 3, 1<<18)
	old = putUint(old, 4, 9)
	if v, err := decodeVolume(7, old); err != nil || v.Profile != (cairn.Profile{K: 4, M: 2}) || !bytes.Equal(encodeVolume(&v), old) {
		t.Errorf("an old row: %+v, %v", v, err)
	}
	for _, p := range []cairn.Profile{{K: 4, M: 2}, {K: 12, M: 4, Local: 2}} {
		want := cairn.Volume{ID: 7, Profile: p, Unit: 1 << 18, Epoch: 9, State: cairn.VolumeSealed, Slots: []cairn.DriveID{cairn.NewID()}}
		if got, err := decodeVolume(7, encodeVolume(&want)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
		if b, err := decodeBucket(encodeBucket(&cairn.Bucket{Name: "b", Profile: p})); err != nil || b.Profile != p {
			t.Errorf("bucket's profile %+v, %v, want %+v", b.Profile, err, p)
		}
	}
}
