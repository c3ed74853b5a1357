package meta

import (
	"fmt"

	"cairn"
)

// bucketQuota is the field of a bucket's row that holds its quota.
const bucketQuota = 21

// QuotaError is an ErrForbidden: the bucket would hold more bytes than it may.
type QuotaError struct{ Bytes, Quota int64 }

// Error tells how many bytes there would be.
func (e *QuotaError) Error() string {
	return fmt.Sprintf("bucket would hold %d bytes, its quota is %d", e.Bytes, e.Quota)
}

// Unwrap returns cairn.ErrForbidden.
func (e *QuotaError) Unwrap() error { return cairn.ErrForbidden }

// fits refuses to add bytes to a bucket that has no room for them. The statistics are read but not checked at the commit:
// writers of one bucket would all wait for one another else. So what is being committed at the same moment may exceed the
// quota, by as much as that; the next commit is refused.
func (t *txn) fits(b *cairn.Bucket, add int64) error {
	if b.QuotaBytes == 0 || add <= 0 {
		return nil
	}
	c, err := readCounters(t.view, key1(famStats, b.ID), 4)
	if err != nil {
		return err
	}
	if total := c[2] + add; total > b.QuotaBytes {
		return &QuotaError{Bytes: total, Quota: b.QuotaBytes}
	}
	return nil
}
