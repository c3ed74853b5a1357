package meta

import (
	"slices"
	"time"

	"cairn"

	"google.golang.org/protobuf/encoding/protowire"
)

// bucketLocal is the field of a bucket's row that holds its profile's local parities.
const bucketLocal protowire.Number = 22

func encodeBucket(b *cairn.Bucket) []byte {
	row := putBytes(nil, 1, b.Name)
	row = putUint(row, 2, b.ID)
	row = putTime(row, 3, b.Created)
	row = putBytes(row, 4, b.Owner)
	row = putUint(row, 5, uint64(b.Profile.K))
	row = putUint(row, 6, uint64(b.Profile.M))
	row = putUint(row, bucketLocal, uint64(b.Profile.Local))
	row = putUint(row, 7, uint64(b.Version))
	row = putMap(row, 8, b.Configs)
	row = putBytes(row, bucketLock, encodeBucketLock(b.Lock))
	return putInt(row, bucketQuota, b.QuotaBytes)
}

func decodeBucket(row []byte) (b cairn.Bucket, err error) {
	err = eachField(row, func(n protowire.Number, f field) (err error) {
		switch n {
		case 1:
			b.Name = string(f.bytes)
		case 2:
			b.ID = f.num
		case 3:
			b.Created = f.time()
		case 4:
			b.Owner = string(f.bytes)
		case 5:
			b.Profile.K = int(f.num)
		case 6:
			b.Profile.M = int(f.num)
		case bucketLocal:
			b.Profile.Local = int(f.num)
		case 7:
			b.Version = cairn.Versioning(f.num)
		case 8:
			err = getPair((*map[string]string)(&b.Configs), f.bytes)
		case bucketQuota:
			b.QuotaBytes = f.int()
		case bucketLock:
			b.Lock, err = decodeBucketLock(f.bytes)
		}
		return err
	})
	return b, err
}

// uploadACL is the field of an upload's access control list.
const uploadACL protowire.Number = 20

func encodeUpload(u *cairn.Upload) []byte {
	row := putTime(nil, 1, u.Created)
	row = putBytes(row, 2, u.Owner)
	row = putMap(row, 3, u.Headers)
	row = putMap(row, 4, u.Tags)
	row = putBytes(row, 5, u.Class)
	row = putBytes(row, 6, string(u.ChecksumAlgo))
	row = putBool(row, 7, u.ChecksumWhole)
	row = putBytes(row, 8, encodeLock(u.Lock))
	row = putBytes(row, uploadACL, u.ACL)
	return putEncryption(row, uploadEncryption, &u.Encryption)
}

// decodeUpload leaves Bucket, Key and ID to the caller, who has them from the row's key.
func decodeUpload(row []byte) (u cairn.Upload, err error) {
	err = eachField(row, func(n protowire.Number, f field) (err error) {
		switch n {
		case 1:
			u.Created = f.time()
		case 2:
			u.Owner = string(f.bytes)
		case 3:
			err = getPair(&u.Headers, f.bytes)
		case 4:
			err = getPair(&u.Tags, f.bytes)
		case 5:
			u.Class = string(f.bytes)
		case 6:
			u.ChecksumAlgo = cairn.ChecksumAlgo(f.bytes)
		case 7:
			u.ChecksumWhole = f.num != 0
		case 8:
			u.Lock, err = decodeLock(f.bytes)
		case uploadACL:
			u.ACL = string(f.bytes)
		case uploadEncryption:
			u.Encryption, err = getEncryption(f.bytes)
		}
		return err
	})
	return u, err
}

func encodePart(p *cairn.Part) []byte {
	row := putUint(nil, 1, uint64(p.Number))
	row = putInt(row, 2, p.Size)
	row = putBytes(row, 3, p.ETag)
	row = putTime(row, 4, p.Modified)
	row = putChecksums(row, 5, p.Checksums)
	row = putBlobs(row, 6, p.Layout.Blobs)
	row = putBytes(row, 7, p.Layout.Inline)
	return putBytes(row, partSalt, p.Salt)
}

func decodePart(row []byte) (p cairn.Part, err error) {
	err = eachField(row, func(n protowire.Number, f field) (err error) {
		switch n {
		case 1:
			p.Number = int(f.num)
		case 2:
			p.Size = f.int()
		case 3:
			p.ETag = string(f.bytes)
		case 4:
			p.Modified = f.time()
		case 5:
			var c cairn.Checksum
			c, err = getChecksum(f.bytes)
			p.Checksums = append(p.Checksums, c)
		case 6:
			p.Layout.Blobs, err = getBlobs(f.bytes)
		case 7:
			p.Layout.Inline = slices.Clone(f.bytes)
		case partSalt:
			p.Salt = slices.Clone(f.bytes)
		}
		return err
	})
	return p, err
}

func encodeBlob(b *cairn.BlobRow) []byte {
	row := putInt(nil, 1, b.Ref.Length)
	return putBytes(putInt(row, 2, b.Count), 3, b.Owner)
}

func decodeBlob(ref cairn.BlobRef, row []byte) (b cairn.BlobRow, err error) {
	b.Ref = ref
	err = eachField(row, func(n protowire.Number, f field) error {
		switch n {
		case 1:
			b.Ref.Length = f.int()
		case 2:
			b.Count = f.int()
		case 3:
			b.Owner = string(f.bytes)
		}
		return nil
	})
	return b, err
}

func encodeGarbage(length int64, t time.Time) []byte { return putTime(putInt(nil, 1, length), 2, t) }

func decodeGarbage(ref cairn.BlobRef, row []byte) (g Garbage, err error) {
	g.Ref = ref
	err = eachField(row, func(n protowire.Number, f field) error {
		switch n {
		case 1:
			g.Ref.Length = f.int()
		case 2:
			g.Time = f.time()
		}
		return nil
	})
	return g, err
}

// volumeLocal is the field of a locally repairable profile's local parities; other volumes have none.
const volumeLocal protowire.Number = 7

func encodeVolume(v *cairn.Volume) []byte {
	row := putUint(nil, 1, uint64(v.Profile.K))
	row = putUint(row, 2, uint64(v.Profile.M))
	row = putInt(row, 3, v.Unit)
	row = putUint(row, 4, uint64(v.Epoch))
	row = putUint(row, 5, uint64(v.State))
	row = putUint(row, volumeLocal, uint64(v.Profile.Local))
	for _, d := range v.Slots {
		row = putMessage(row, 6, d[:])
	}
	return row
}

func decodeVolume(id cairn.VolumeID, row []byte) (v cairn.Volume, err error) {
	v.ID = id
	err = eachField(row, func(n protowire.Number, f field) error {
		switch n {
		case 1:
			v.Profile.K = int(f.num)
		case 2:
			v.Profile.M = int(f.num)
		case volumeLocal:
			v.Profile.Local = int(f.num)
		case 3:
			v.Unit = f.int()
		case 4:
			v.Epoch = cairn.Epoch(f.num)
		case 5:
			v.State = cairn.VolumeState(f.num)
		case 6:
			if len(f.bytes) != 16 {
				return corruptRow("volume's slot")
			}
			v.Slots = append(v.Slots, cairn.DriveID(f.bytes))
		}
		return nil
	})
	return v, err
}

func encodeDrive(d *cairn.Drive) []byte {
	row := putBytes(nil, 1, d.Node[:])
	row = putBytes(row, 2, d.Path)
	row = putUint(row, 3, uint64(d.State))
	row = putTime(row, 4, d.StateSince)
	row = putBytes(row, 5, d.Reason)
	row = putBool(row, 6, d.Retired)
	for _, s := range d.Domains {
		row = putMessage(row, 7, []byte(s))
	}
	return putBool(putInt(putInt(row, 8, d.TotalBytes), 9, d.FreeBytes), 10, d.Draining)
}

func decodeDrive(id cairn.DriveID, row []byte) (d cairn.Drive, err error) {
	d.ID = id
	err = eachField(row, func(n protowire.Number, f field) error {
		switch n {
		case 1:
			if len(f.bytes) != 16 {
				return corruptRow("drive's node")
			}
			d.Node = cairn.NodeID(f.bytes)
		case 2:
			d.Path = string(f.bytes)
		case 3:
			d.State = cairn.DriveState(f.num)
		case 4:
			d.StateSince = f.time()
		case 5:
			d.Reason = string(f.bytes)
		case 6:
			d.Retired = f.num != 0
		case 7:
			d.Domains = append(d.Domains, string(f.bytes))
		case 8:
			d.TotalBytes = f.int()
		case 9:
			d.FreeBytes = f.int()
		case 10:
			d.Draining = f.num != 0
		}
		return nil
	})
	return d, err
}

func encodeDamage(d *cairn.Damage) []byte {
	row := putUint(nil, 1, uint64(d.Kind))
	row = putBytes(row, 2, d.Drive[:])
	row = putTime(row, 3, d.Found)
	row = putBytes(row, 4, d.By)
	row = putBytes(row, 5, d.Note)
	row = putTime(putUint(row, 6, uint64(d.Tries)), 7, d.RetryAt)
	if p := d.Pass; p != (cairn.SlotPass{}) {
		msg := putBytes(putUint(nil, 1, uint64(p.Epoch)), 2, p.To[:])
		msg = putUint(msg, 3, uint64(p.After))
		row = putMessage(row, 8, putInt(putInt(msg, 4, p.Blobs), 5, p.Bytes))
	}
	if !d.To.IsZero() {
		row = putBytes(row, 9, d.To[:])
	}
	return row
}

func decodeSlotPass(msg []byte) (p cairn.SlotPass, err error) {
	err = eachField(msg, func(n protowire.Number, f field) error {
		switch n {
		case 1:
			p.Epoch = cairn.Epoch(f.num)
		case 2:
			if len(f.bytes) != 16 {
				return corruptRow("pass's drive")
			}
			p.To = cairn.DriveID(f.bytes)
		case 3:
			p.After = cairn.BlobID(f.num)
		case 4:
			p.Blobs = f.int()
		case 5:
			p.Bytes = f.int()
		}
		return nil
	})
	return p, err
}

func decodeDamage(id cairn.ShardID, row []byte) (d cairn.Damage, err error) {
	d.Shard = id
	err = eachField(row, func(n protowire.Number, f field) error {
		switch n {
		case 1:
			d.Kind = cairn.DamageKind(f.num)
		case 2:
			if len(f.bytes) != 16 {
				return corruptRow("damage's drive")
			}
			d.Drive = cairn.DriveID(f.bytes)
		case 3:
			d.Found = f.time()
		case 4:
			d.By = string(f.bytes)
		case 5:
			d.Note = string(f.bytes)
		case 6:
			d.Tries = int(f.num)
		case 7:
			d.RetryAt = f.time()
		case 8:
			d.Pass, err = decodeSlotPass(f.bytes)
			return err
		case 9:
			if len(f.bytes) != 16 {
				return corruptRow("damage's target")
			}
			d.To = cairn.DriveID(f.bytes)
		}
		return nil
	})
	return d, err
}
