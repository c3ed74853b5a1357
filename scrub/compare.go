package scrub

import "cairn"

// compare merges what Meta expects of a slot with what its drive holds, both in order of blob numbers and of the same
// range. It returns the blobs whose shard the drive lacks, and the shards that nothing asks for.
func compare(want []cairn.BlobRow, have []cairn.ShardInfo) (lacking []cairn.BlobRef, extra []cairn.ShardInfo) {
	for len(want) > 0 || len(have) > 0 {
		switch {
		case len(have) == 0 || len(want) > 0 && want[0].Ref.Blob < have[0].ID.Blob:
			lacking = append(lacking, want[0].Ref)
			want = want[1:]
		case len(want) == 0 || have[0].ID.Blob < want[0].Ref.Blob:
			extra = append(extra, have[0])
			have = have[1:]
		default:
			want, have = want[1:], have[1:]
		}
	}
	return lacking, extra
}
