package rpc_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"testing"

	"cairn"
	"cairn/internal/rpc"
)

func TestEveryKindSurvivesTheWire(t *testing.T) {
	for _, kind := range cairn.Kinds() {
		sent := &cairn.Error{Op: "test", Subject: "x", Err: fmt.Errorf("why: %w", kind)}
		w := httptest.NewRecorder()
		rpc.WriteError(w, sent)
		got := rpc.ReadError(w.Result())
		if cairn.Kind(got) != kind || got.Error() != sent.Error() {
			t.Errorf("response: got %v (%v), want %v (%v)", got, cairn.Kind(got), sent, kind)
		}
		var b bytes.Buffer
		if err := rpc.NewFrameWriter(&b).Fail(sent); err != nil {
			t.Fatal(err)
		}
		if _, got := io.ReadAll(rpc.NewFrameReader(&b)); cairn.Kind(got) != kind || got.Error() != sent.Error() {
			t.Errorf("frame: got %v (%v), want %v (%v)", got, cairn.Kind(got), sent, kind)
		}
	}
	w := httptest.NewRecorder()
	rpc.WriteError(w, errors.New("no kind"))
	if got := rpc.ReadError(w.Result()); !errors.Is(got, cairn.ErrUnavailable) {
		t.Errorf("an error without a kind: got %v, want unavailable", got)
	}
}

func framed(t *testing.T, data []byte) []byte {
	var b bytes.Buffer
	f := rpc.NewFrameWriter(&b)
	if _, err := f.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := f.End(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestFrames(t *testing.T) {
	for _, n := range []int{0, 1, rpc.MaxFrameBytes - 1, rpc.MaxFrameBytes, rpc.MaxFrameBytes + 1, 300_000} {
		data := bytes.Repeat([]byte("weights"), n/7+1)[:n]
		got, err := io.ReadAll(rpc.NewFrameReader(bytes.NewReader(framed(t, data))))
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes: got %d, %v", n, len(got), err)
		}
	}
}

// Whatever happens to a body on its way, the reader never returns other bytes as if they were whole.
func TestDamagedFrames(t *testing.T) {
	data := bytes.Repeat([]byte("tensor"), 100)
	body := framed(t, data)
	for i := range body {
		if _, err := io.ReadAll(rpc.NewFrameReader(bytes.NewReader(body[:i]))); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("cut off after %d bytes: got %v", i, err)
		}
		bad := bytes.Clone(body)
		bad[i] ^= 4
		got, err := io.ReadAll(rpc.NewFrameReader(bytes.NewReader(bad)))
		if err == nil && !bytes.Equal(got, data) {
			t.Fatalf("byte %d flipped: %d wrong bytes without an error", i, len(got))
		}
	}
}

func FuzzFrameReader(f *testing.F) {
	f.Add([]byte{2, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{3, 1, 0, 0, 0, 0, 0, 0, 0, 9})
	f.Fuzz(func(t *testing.T, b []byte) {
		data, err := io.ReadAll(rpc.NewFrameReader(bytes.NewReader(b)))
		if len(data) > len(b) {
			t.Fatalf("%d bytes out of %d", len(data), len(b))
		}
		if err != nil {
			return
		}
		again, err := io.ReadAll(rpc.NewFrameReader(bytes.NewReader(framed(t, data))))
		if err != nil || !bytes.Equal(again, data) {
			t.Errorf("%d bytes read whole, and again: %d, %v", len(data), len(again), err)
		}
	})
}
