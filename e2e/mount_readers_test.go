//go:build e2e

package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// tensorFile is weights in the safetensors format: the head's length (u64, little-endian), a head in JSON that names each
// tensor's bytes, the bytes.
func tensorFile(seed uint64, tensors, each int) []byte {
	type tensor struct {
		Type    string `json:"dtype"`
		Shape   [1]int `json:"shape"`
		Offsets [2]int `json:"data_offsets"`
	}
	head := map[string]tensor{}
	for i := range tensors {
		head[fmt.Sprintf("layers.%d.weight", i)] = tensor{"U8", [1]int{each}, [2]int{i * each, (i + 1) * each}}
	}
	text, _ := json.Marshal(head)
	for len(text)%8 != 0 {
		text = append(text, ' ')
	}
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(text)))
	return append(append(b, text...), content(seed, tensors*each)...)
}

// ggufFile is weights in the GGUF format, version 3, with one string of metadata and unsigned bytes for tensors.
func ggufFile(seed uint64, tensors, each int) []byte {
	str := func(b []byte, s string) []byte {
		return append(binary.LittleEndian.AppendUint64(b, uint64(len(s))), s...)
	}
	b := binary.LittleEndian.AppendUint32([]byte("GGUF"), 3)
	b = binary.LittleEndian.AppendUint64(b, uint64(tensors))
	b = binary.LittleEndian.AppendUint64(b, 1)
	b = str(binary.LittleEndian.AppendUint32(str(b, "general.architecture"), 8), "llama") // 8: a string
	for i := range tensors {
		b = binary.LittleEndian.AppendUint32(str(b, fmt.Sprintf("blk.%d.weight", i)), 1) // one dimension
		b = binary.LittleEndian.AppendUint64(b, uint64(each))
		b = binary.LittleEndian.AppendUint32(b, 24) // I8
		b = binary.LittleEndian.AppendUint64(b, uint64(i*each))
	}
	for len(b)%ggufAlign != 0 {
		b = append(b, 0)
	}
	return append(b, content(seed, tensors*each)...)
}

const ggufAlign = 32

// readGGUF reads such a file as llama.cpp does: the head piece by piece, then the tensors through a map, here in random order.
func readGGUF(path string, each int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var bad error
	read := func(v any) {
		if bad == nil {
			bad = binary.Read(f, binary.LittleEndian, v)
		}
	}
	str := func() string {
		var n uint64
		if read(&n); n > 1<<10 {
			bad = errors.Join(bad, fmt.Errorf("a string of %d bytes", n))
			return ""
		}
		b := make([]byte, n)
		read(b)
		return string(b)
	}
	var magic [4]byte
	var version, kind, dims uint32
	var tensors, pairs uint64
	read(&magic)
	read(&version)
	read(&tensors)
	read(&pairs)
	if string(magic[:]) != "GGUF" || version != 3 || pairs != 1 || tensors > 1000 {
		return nil, fmt.Errorf("head %q %d %d %d: %w", magic, version, tensors, pairs, bad)
	}
	name := str()
	read(&kind)
	if value := str(); name != "general.architecture" || value != "llama" {
		return nil, fmt.Errorf("metadata %q %q: %w", name, value, bad)
	}
	offsets := make([]uint64, tensors)
	for i := range offsets {
		var n uint64
		str()
		read(&dims)
		read(&n)
		read(&kind)
		read(&offsets[i])
	}
	at, err := f.Seek(0, io.SeekCurrent)
	if err = errors.Join(bad, err); err != nil {
		return nil, err
	}
	at = (at + ggufAlign - 1) / ggufAlign * ggufAlign
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	b, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	defer unix.Munmap(b)
	out := make([]byte, len(offsets)*each)
	for _, i := range rand.New(rand.NewPCG(3, 4)).Perm(len(offsets)) {
		copy(out[i*each:], b[at+int64(offsets[i]):][:each])
	}
	return out, nil
}

// readTensors is a reader of safetensors in Python's own library, as loaders do it: the head, then a map in random order.
const readTensors = `
import hashlib, json, mmap, random, struct, sys
with open(sys.argv[1], "rb") as f:
    n = struct.unpack("<Q", f.read(8))[0]
    head = json.loads(f.read(n))
    m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)
    names = sorted(head)
    random.Random(5).shuffle(names)
    sums = {}
    for name in names:
        a, b = head[name]["data_offsets"]
        sums[name] = hashlib.sha256(m[8 + n + a:8 + n + b]).hexdigest()
    for name in sorted(sums):
        print(name, sums[name])
`

// saveTorch and readTorch store and load a state dict as PyTorch does.
const (
	saveTorch = `
import sys, torch
g = torch.Generator().manual_seed(6)
torch.save({"w%d" % i: torch.randint(0, 255, (1 << 20,), generator=g, dtype=torch.uint8) for i in range(20)}, sys.argv[1])
`
	readTorch = `
import hashlib, inspect, sys, torch
how = {"map_location": "cpu"}
if "mmap" in inspect.signature(torch.load).parameters:
    how["mmap"] = True
d = torch.load(sys.argv[1], **how)
for k in sorted(d):
    print(k, hashlib.sha256(d[k].numpy().tobytes()).hexdigest())
`
)

// tool runs a program, or skips the test, loudly, where it is not there.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("SKIPPED LOUDLY: %s is not installed: it is not tested as a reader of a mount", name)
	}
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// TestMountReaders: the programs that people use read a mounted bucket as they read a disk, cold and then from the cache.
func TestMountReaders(t *testing.T) {
	s := start(t)
	local := t.TempDir()
	put := func(name string, body []byte) {
		s.putObject("m/"+name, body)
		if err := os.WriteFile(filepath.Join(local, name), body, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const tensors, each = 23, 1<<20 + 4567
	put("w.safetensors", tensorFile(81, tensors, each))
	put("w.gguf", ggufFile(82, tensors, each))
	put("data.tar", content(83, 17<<20+5))
	for i := range 20 {
		put(fmt.Sprintf("small-%d.json", i), content(uint64(90+i), i*777))
	}
	m := s.mount()
	shown := filepath.Join(m.dir, "m")
	for _, round := range []string{"cold", "warm"} {
		t.Run("sha256sum/"+round, func(t *testing.T) {
			want := tool(t, "sh", "-c", "cd "+local+" && sha256sum *")
			if got := tool(t, "sh", "-c", "cd "+shown+" && sha256sum *"); got != want {
				t.Errorf("got\n%swant\n%s", got, want)
			}
		})
		t.Run("python mmap/"+round, func(t *testing.T) {
			want := tool(t, "python3", "-c", readTensors, filepath.Join(local, "w.safetensors"))
			if got := tool(t, "python3", "-c", readTensors, filepath.Join(shown, "w.safetensors")); got != want || strings.Count(got, "\n") != tensors {
				t.Errorf("got\n%swant\n%s", got, want)
			}
		})
		t.Run("gguf/"+round, func(t *testing.T) {
			got, err := readGGUF(filepath.Join(shown, "w.gguf"), each)
			if err != nil || !bytes.Equal(got, content(82, tensors*each)) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
		t.Run("cp/"+round, func(t *testing.T) {
			to := filepath.Join(t.TempDir(), "copy")
			tool(t, "cp", "-r", shown, to)
			tool(t, "diff", "-r", local, to)
		})
		t.Run("rsync/"+round, func(t *testing.T) {
			to := filepath.Join(t.TempDir(), "copy")
			tool(t, "rsync", "-a", shown+"/", to+"/")
			tool(t, "rsync", "-a", "--checksum", "--delete", shown+"/", to+"/")
			tool(t, "diff", "-r", local, to)
		})
		m.whole(3)
	}
	t.Run("torch.load", func(t *testing.T) {
		const python = "/usr/bin/python3" // Debian's, for its python3-torch
		if err := exec.Command(python, "-c", "import torch").Run(); err != nil {
			t.Skip("SKIPPED LOUDLY: the Debian package python3-torch is not installed: torch.load is not tested on a mount")
		}
		path := filepath.Join(local, "w.pt")
		tool(t, python, "-c", saveTorch, path)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		s.putObject("torch/w.pt", b)
		want := tool(t, python, "-c", readTorch, path)
		for range 2 {
			if got := tool(t, python, "-c", readTorch, filepath.Join(m.dir, "torch/w.pt")); got != want || strings.Count(got, "\n") != 20 {
				t.Errorf("got\n%swant\n%s", got, want)
			}
			m.whole(4)
		}
	})
}

// TestMountRandomReads compares reads of any length at any place, plain and through a map, by several readers at once, with
// a local copy, while the cache is too small for the files and they are evicted and fetched again. With CAIRN_SOAK for ten minutes.
func TestMountRandomReads(t *testing.T) {
	s := start(t)
	files := map[string][]byte{"m/a.safetensors": content(84, 33<<20+1), "m/b.dat": content(85, 41<<20+4095), "m/c.gguf": content(86, 24<<20)}
	names := []string{"m/a.safetensors", "m/b.dat", "m/c.gguf"}
	for _, n := range names {
		s.putObject(n, files[n])
	}
	m := s.mount("--cache-size", "80MiB", "--cache-free", "1MiB", "--memory", "64MiB")
	rounds, until := 60, time.Time{}
	if os.Getenv("CAIRN_SOAK") != "" {
		until = time.Now().Add(10 * time.Minute)
	}
	failed := make(chan error, 4)
	for w := range uint64(4) {
		go func() {
			r := rand.New(rand.NewPCG(w, 87))
			var err error
			for i := 0; err == nil && (i < rounds || time.Now().Before(until)); i++ {
				name := names[r.IntN(len(names))]
				if err = readAtRandom(r, filepath.Join(m.dir, name), files[name]); err != nil {
					err = fmt.Errorf("reader %d, round %d, %s: %w", w, i, name, err)
				}
			}
			failed <- err
		}()
	}
	for range 4 {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
	if st := m.status(); st.Cache.HeldBytes > st.Cache.LimitBytes || st.Cache.Evictions == 0 {
		t.Errorf("the cache was to be too small, and to keep its limit: %+v", st.Cache)
	}
}

// readAtRandom opens a file, compares some of it, and closes it.
func readAtRandom(r *rand.Rand, path string, want []byte) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	read := func(off, n int) ([]byte, error) {
		b := make([]byte, n)
		k, err := f.ReadAt(b, int64(off))
		if err == io.EOF && off+k == len(want) {
			err = nil
		}
		return b[:k], err
	}
	if r.IntN(3) == 0 {
		mapped, err := unix.Mmap(int(f.Fd()), 0, len(want), unix.PROT_READ, unix.MAP_SHARED)
		if err != nil {
			return err
		}
		defer unix.Munmap(mapped)
		read = func(off, n int) ([]byte, error) { return bytes.Clone(mapped[off:min(off+n, len(want))]), nil }
	}
	for range 8 {
		off, n := r.IntN(len(want)), 1<<r.IntN(22)
		got, err := read(off, n)
		if err != nil {
			return fmt.Errorf("%d bytes at %d: %w", n, off, err)
		}
		if end := min(off+n, len(want)); !bytes.Equal(got, want[off:end]) {
			return fmt.Errorf("%d bytes at %d differ (%x, want %x)", n, off, sha256.Sum256(got), sha256.Sum256(want[off:end]))
		}
	}
	return nil
}
