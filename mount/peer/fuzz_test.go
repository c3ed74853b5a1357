package peer

import (
	"bytes"
	"testing"
)

// Whatever a peer answers, it fills no more than its place, and what counts as arrived has its checksum.
func FuzzFrame(f *testing.F) {
	var good bytes.Buffer
	if err := writeFrame(&good, 0, []byte("data")); err != nil {
		f.Fatal(err)
	}
	f.Add(good.Bytes())
	f.Add([]byte{0, 0, 0, 0x80, 0, 0, 0, 0, 'n', 'o'})
	f.Fuzz(func(t *testing.T, answer []byte) {
		p := make([]byte, 16)
		n, err := readFrame(bytes.NewReader(answer), p[:8], func() {})
		if err != nil && n != 0 {
			t.Errorf("%d bytes and %v", n, err)
		}
		if !bytes.Equal(p[8:], make([]byte, 8)) {
			t.Error("it wrote beyond its place")
		}
		var again bytes.Buffer
		if err == nil {
			if writeFrame(&again, 0, p[:n]); !bytes.HasPrefix(answer, again.Bytes()) {
				t.Errorf("%x became %x", answer, p[:n])
			}
		}
	})
}
