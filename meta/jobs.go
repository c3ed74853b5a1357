package meta

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"cairn"
	"cairn/meta/replica"
)

// maxEndedJobs is how many ended jobs are remembered.
const maxEndedJobs = 100

const counterJob = "job" // the last job ID given out

// CreateJob commits a new job and gives it a number. Errors: ErrExists if one of the same kind and subject has not ended.
func (s *Store) CreateJob(ctx context.Context, kind cairn.JobKind, subject string) (j cairn.Job, err error) {
	_, err = s.change(ctx, s.groups.system(), 0, func(t *txn) error {
		all, err := jobs(t.view)
		if err != nil {
			return err
		}
		var ended []cairn.JobID
		for _, old := range all {
			if old.Ended() {
				ended = append(ended, old.ID)
			} else if old.Kind == kind && old.Subject == subject {
				return fmt.Errorf("job %s does this already: %w", old.ID, cairn.ErrExists)
			}
		}
		for len(ended) >= maxEndedJobs {
			t.batch.Delete(key1(famJob, uint64(ended[0])))
			ended = ended[1:]
		}
		id, err := t.counter(counterJob) // two creators conflict here, so that neither misses the other's job
		if err != nil {
			return err
		}
		t.setCounter(counterJob, id+1)
		j = cairn.Job{ID: cairn.JobID(id + 1), Kind: kind, Subject: subject, Created: t.now,
			Progress: cairn.Progress{State: cairn.JobQueued}}
		t.batch.Put(key1(famJob, uint64(j.ID)), encodeJob(&j))
		return nil
	})
	return j, fail("meta.create job", string(kind)+" "+subject, err)
}

// Jobs returns all jobs, oldest first.
func (s *Store) Jobs(ctx context.Context) (list []cairn.Job, err error) {
	err = s.read(ctx, s.groups.system(), func(w *replica.View) error {
		list, err = jobs(w)
		return err
	})
	return list, fail("meta.jobs", "", err)
}

func jobs(w *replica.View) (list []cairn.Job, err error) {
	err = w.Walk([]byte{famJob}, []byte{famJob + 1}, func(c replica.Cursor) error {
		for ; c.Valid(); c.Next() {
			row, err := c.Value()
			if err != nil {
				return err
			}
			if len(c.Key()) != 9 {
				return corruptRow("job's key")
			}
			j, err := decodeJob(cairn.JobID(binary.BigEndian.Uint64(c.Key()[1:])), row)
			if err != nil {
				return err
			}
			list = append(list, j)
		}
		return nil
	})
	return list, err
}

// WishJob commits what an operator wants of a job, and returns it. Errors: ErrNotFound, ErrPrecondition if that cannot be.
func (s *Store) WishJob(ctx context.Context, id cairn.JobID, wish cairn.JobWish) (j cairn.Job, err error) {
	_, err = s.changeJob(ctx, id, func(old *cairn.Job) error {
		switch {
		case old.Ended():
			return fmt.Errorf("it is %s since %s: start a new one: %w", old.State, old.Finished.Format(time.RFC3339), cairn.ErrPrecondition)
		case old.Wish == cairn.WishCancel && wish != cairn.WishCancel:
			return fmt.Errorf("it is being canceled: start a new one: %w", cairn.ErrPrecondition)
		case old.Kind.Standing() && wish == cairn.WishCancel:
			return fmt.Errorf("%s never ends: pause it instead: %w", old.Kind, cairn.ErrPrecondition)
		}
		old.Wish = wish
		j = *old
		return nil
	})
	return j, fail("meta.wish job", id.String(), err)
}

// ReportJob commits how far a job has come. What is wished of it stays. Errors: ErrNotFound.
func (s *Store) ReportJob(ctx context.Context, id cairn.JobID, p cairn.Progress) error {
	_, err := s.changeJob(ctx, id, func(j *cairn.Job) error {
		j.Progress = p
		return nil
	})
	return fail("meta.report job", id.String(), err)
}

func (s *Store) changeJob(ctx context.Context, id cairn.JobID, f func(*cairn.Job) error) (replica.Outcome, error) {
	key := key1(famJob, uint64(id))
	return s.change(ctx, s.groups.system(), 0, func(t *txn) error {
		row, found, err := t.get(key)
		if err != nil {
			return err
		}
		if !found {
			return fmt.Errorf("no such job: %w", cairn.ErrNotFound)
		}
		j, err := decodeJob(id, row)
		if err != nil {
			return err
		}
		if err := f(&j); err != nil {
			return err
		}
		t.batch.Put(key, encodeJob(&j))
		return nil
	})
}

func encodeJob(j *cairn.Job) []byte {
	row := putBytes(putBytes(nil, 1, string(j.Kind)), 2, j.Subject)
	row = putUint(putTime(row, 3, j.Created), 4, uint64(j.Wish))
	row = putBytes(putBytes(row, 5, j.State), 6, j.Reason)
	row = putTime(putTime(row, 7, j.Started), 8, j.Finished)
	row = putInt(putInt(row, 9, j.DoneBytes), 10, j.TotalBytes)
	row = putInt(putInt(row, 11, j.DoneBlobs), 12, j.TotalBlobs)
	row = putInt(putInt(row, 13, int64(j.RateBytesPerSec)), 14, int64(j.ETA))
	row = putBytes(row, 15, j.LastError)
	return putInt(putInt(row, 16, j.Found), 17, j.Unchecked)
}

func decodeJob(id cairn.JobID, row []byte) (j cairn.Job, err error) {
	j.ID = id
	err = eachField(row, func(n protowire.Number, f field) error {
		switch n {
		case 1:
			j.Kind = cairn.JobKind(f.bytes)
		case 2:
			j.Subject = string(f.bytes)
		case 3:
			j.Created = f.time()
		case 4:
			j.Wish = cairn.JobWish(f.num)
		case 5:
			j.State = string(f.bytes)
		case 6:
			j.Reason = string(f.bytes)
		case 7:
			j.Started = f.time()
		case 8:
			j.Finished = f.time()
		case 9:
			j.DoneBytes = f.int()
		case 10:
			j.TotalBytes = f.int()
		case 11:
			j.DoneBlobs = f.int()
		case 12:
			j.TotalBlobs = f.int()
		case 13:
			j.RateBytesPerSec = float64(f.int())
		case 14:
			j.ETA = time.Duration(f.int())
		case 15:
			j.LastError = string(f.bytes)
		case 16:
			j.Found = f.int()
		case 17:
			j.Unchecked = f.int()
		}
		return nil
	})
	return j, err
}
