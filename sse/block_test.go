package sse

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"

	"cairn"
)

var (
	testKey  = bytes.Repeat([]byte{7}, KeyBytes)
	testSalt = bytes.Repeat([]byte{9}, SaltBytes)
)

func testBody(n int) []byte {
	rng := rand.New(rand.NewPCG(1, uint64(n)))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

func seal(t testing.TB, plain []byte) []byte {
	t.Helper()
	sealed, err := Seal(testKey, testSalt, plain)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := int64(len(sealed)), cairn.SealedSize(int64(len(plain))); got != want {
		t.Fatalf("%d plain bytes sealed to %d, want %d", len(plain), got, want)
	}
	return sealed
}

// open opens a range out of a sealed body.
func open(sealed []byte, size, off, length int64) ([]byte, error) {
	var out bytes.Buffer
	o, err := NewOpener(testKey, testSalt, size, off, length, &out)
	if err != nil {
		return nil, err
	}
	at, n := Range(size, off, length)
	if at+n > int64(len(sealed)) {
		n = int64(len(sealed)) - at
	}
	if _, err := io.Copy(o, iotest.HalfReader(bytes.NewReader(sealed[at:at+max(n, 0)]))); err != nil {
		return out.Bytes(), err
	}
	return out.Bytes(), o.Close()
}

func TestRangesOpen(t *testing.T) {
	for _, size := range []int{0, 1, blockBytes - 1, blockBytes, blockBytes + 1, 3*blockBytes + 5} {
		plain := testBody(size)
		sealed := seal(t, plain)
		if size > 64 && bytes.Contains(sealed, plain[:64]) {
			t.Errorf("size %d: plain bytes shine through", size)
		}
		edges := []int64{0, 1, blockBytes - 1, blockBytes, blockBytes + 1, int64(size) - 1, int64(size)}
		for _, from := range edges {
			for _, to := range edges {
				if from < 0 || from > to || to > int64(size) {
					continue
				}
				got, err := open(sealed, int64(size), from, to-from)
				if err != nil || !bytes.Equal(got, plain[from:to]) {
					t.Errorf("size %d, bytes %d to %d: got %d bytes, %v", size, from, to, len(got), err)
				}
			}
		}
	}
}

func TestSealerTeesAndPassesErrors(t *testing.T) {
	plain := testBody(2*blockBytes + 7)
	var tee bytes.Buffer
	s, err := NewSealer(testKey, testSalt, iotest.OneByteReader(bytes.NewReader(plain)), &tee)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := io.ReadAll(s)
	if err != nil || !bytes.Equal(tee.Bytes(), plain) || !bytes.Equal(sealed, seal(t, plain)) {
		t.Errorf("read %d bytes, %v; the tee got %d of %d", len(sealed), err, tee.Len(), len(plain))
	}
	cut := errors.New("cut off")
	s, err = NewSealer(testKey, testSalt, io.MultiReader(bytes.NewReader(plain[:100]), iotest.ErrReader(cut)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if sealed, err := io.ReadAll(s); err != cut || len(sealed) != 0 {
		t.Errorf("a body that breaks off: %d sealed bytes, %v, want none and its own error", len(sealed), err)
	}
}

// Whatever happens to stored bytes, nothing but the stored plain bytes comes out.
func TestTamperingIsFound(t *testing.T) {
	const size = 3*blockBytes + 100
	plain := testBody(size)
	whole := func(sealed []byte) ([]byte, error) { return open(sealed, size, 0, size) }
	block := func(b []byte, n int) []byte { return b[n*sealedBlock : (n+1)*sealedBlock] }
	for _, c := range []struct {
		name string
		do   func(b []byte) []byte
	}{
		{"a flipped bit", func(b []byte) []byte { b[sealedBlock+17] ^= 1; return b }},
		{"a flipped bit in a tag", func(b []byte) []byte { b[len(b)-1] ^= 0x80; return b }},
		{"two blocks exchanged", func(b []byte) []byte {
			first := bytes.Clone(block(b, 0))
			copy(block(b, 0), block(b, 1))
			copy(block(b, 1), first)
			return b
		}},
		{"a block repeated", func(b []byte) []byte { copy(block(b, 1), block(b, 0)); return b }},
		{"the end cut off", func(b []byte) []byte { return b[:len(b)-1] }},
		{"the last block cut off", func(b []byte) []byte { return b[:3*sealedBlock] }},
		{"nothing left", func(b []byte) []byte { return nil }},
	} {
		got, err := whole(c.do(seal(t, plain)))
		if !errors.Is(err, cairn.ErrCorrupt) {
			t.Errorf("%s: %v, want ErrCorrupt", c.name, err)
		}
		if !bytes.HasPrefix(plain, got) {
			t.Errorf("%s: wrong bytes came out", c.name)
		}
	}
	// A body that ends on a block's border and is taken for a shorter one of whole blocks.
	if _, err := open(seal(t, plain)[:2*sealedBlock], 2*blockBytes, 0, 2*blockBytes); !errors.Is(err, cairn.ErrCorrupt) {
		t.Errorf("a body cut at a block's border under a shorter size: %v", err)
	}
	if _, err := NewOpener(testKey, testSalt[1:], size, 0, 1, io.Discard); !errors.Is(err, cairn.ErrCorrupt) {
		t.Errorf("a short salt: %v", err)
	}
	other, err := NewOpener(testKey, NewSalt(), size, 0, 10, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Write(seal(t, plain)[:sealedBlock]); !errors.Is(err, cairn.ErrCorrupt) {
		t.Errorf("another salt: %v", err)
	}
	more, err := NewOpener(testKey, testSalt, 10, 0, 10, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := more.Write(append(seal(t, plain[:10]), 1)); !errors.Is(err, cairn.ErrCorrupt) {
		t.Errorf("bytes behind the end: %v", err)
	}
}

// FuzzOpen opens arbitrary bytes: no panic, and nothing but what was sealed.
func FuzzOpen(f *testing.F) {
	plain := testBody(blockBytes + 10)
	sealed := seal(f, plain)
	f.Add(sealed, int64(len(plain)), int64(0), int64(len(plain)))
	f.Add(sealed[:20], int64(4), int64(1), int64(2))
	f.Fuzz(func(t *testing.T, b []byte, size, off, length int64) {
		if size < 0 || size > 1<<20 || off < 0 || length < 0 || off > size || length > size-off {
			return
		}
		o, err := NewOpener(testKey, testSalt, size, off, length, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		o.Write(b)
		o.Close()
	})
}
