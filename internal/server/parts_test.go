package server

import (
	"errors"
	"testing"

	"cairn"
)

// What a part refuses is the error of the start, and what was opened before it is closed.
func TestOpenReportsWhatAPartRefuses(t *testing.T) {
	for range 2 { // the second start finds nothing locked
		d, err := OpenDirectory(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		state, err := Settle(nil, Wish{})
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Save(state); err != nil {
			t.Fatal(err)
		}
		_, err = Open(Config{Directory: d, S3Addr: "127.0.0.1:0", AdminAddr: "127.0.0.1:0", AccessKey: "a", SecretKey: "b"})
		if !errors.Is(err, cairn.ErrInvalid) {
			t.Errorf("keys that are too short: %v, want ErrInvalid", err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}
