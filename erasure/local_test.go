package erasure

import (
	"bytes"
	"fmt"
	"math/bits"
	"testing"
)

var local = Scheme{K: 12, M: 4, Local: 2}

// generator returns what each unit holds of each data unit: row by row the matrix of the code, learned from the encoder.
func generator(t testing.TB, code *Code) [][]byte {
	t.Helper()
	rows := make([][]byte, code.Width())
	for i := range rows {
		rows[i] = make([]byte, code.K)
	}
	for d := range code.K {
		units := make([][]byte, code.Width())
		for i := range units {
			units[i] = make([]byte, Grain)
		}
		units[d][0] = 1
		if err := code.Encode(units); err != nil {
			t.Fatal(err)
		}
		for i := range units {
			rows[i][d] = units[i][0]
		}
	}
	return rows
}

// rankOf is the rank of some rows by elimination in GF(2⁸).
func rankOf(rows [][]byte, set uint64) (rank int) {
	var m [][]byte
	for i := range rows {
		if set>>i&1 == 1 {
			m = append(m, bytes.Clone(rows[i]))
		}
	}
	for col := range len(rows[0]) {
		pivot := -1
		for i := rank; i < len(m); i++ {
			if m[i][col] != 0 {
				pivot = i
				break
			}
		}
		if pivot < 0 {
			continue
		}
		m[rank], m[pivot] = m[pivot], m[rank]
		inverse := byte(1)
		for multiply(inverse, m[rank][col]) != 1 {
			inverse++
		}
		for i := rank + 1; i < len(m); i++ {
			f := multiply(m[i][col], inverse)
			for c := range m[i] {
				m[i][c] ^= multiply(f, m[rank][c])
			}
		}
		rank++
	}
	return rank
}

// patterns calls f with every set of up to most of n units.
func patterns(n, most int, f func(lost uint64)) {
	for lost := range uint64(1) << n {
		if bits.OnesCount64(lost) <= most {
			f(lost)
		}
	}
}

// Which of the patterns of up to four losses decode is compared with the rank of the matrix, and each that does is decoded.
func TestEveryPatternOfALocalCode(t *testing.T) {
	for _, s := range []Scheme{local, {K: 2, M: 3, Local: 2}, {K: 4, M: 4, Local: 2}, {K: 6, M: 3, Local: 2}} {
		t.Run(fmt.Sprintf("%d+%d+%d", s.K, s.Local, s.M-s.Local), func(t *testing.T) {
			code, err := new(Codes).Get(s)
			if err != nil {
				t.Fatal(err)
			}
			rows := generator(t, code)
			whole := shardsOf(t, code)
			decoded, all := map[int]int{}, map[int]int{}
			patterns(s.Width(), 4, func(lost uint64) {
				n, have := bits.OnesCount64(lost), (uint64(1)<<s.Width()-1)&^lost
				want := rankOf(rows, have) == s.K
				if got := s.Decodes(have); got != want {
					t.Fatalf("lost %b: Decodes = %v, the matrix says %v", lost, got, want)
				}
				all[n]++
				if want {
					decoded[n]++
				}
				if err := rebuild(code, whole, have, lost); (err == nil) != want {
					t.Fatalf("lost %b: %v, want it to decode: %v", lost, err, want)
				}
			})
			if s == local && (decoded[1] != 16 || decoded[2] != 120 || decoded[3] != 560 || decoded[4] != 1568 || all[4] != 1820) {
				t.Errorf("decoded %v of %v; want all of up to three, and 1,568 of 1,820 (86.15%%)", decoded, all)
			}
		})
	}
}

func shardsOf(t testing.TB, code *Code) [][]byte {
	t.Helper()
	units := make([][]byte, code.Width())
	for i := range units {
		if units[i] = make([]byte, Grain); i < code.K {
			units[i] = fill(Grain, uint64(i))
		}
	}
	if err := code.Encode(units); err != nil {
		t.Fatal(err)
	}
	return units
}

// rebuild computes the wanted units from those at hand and compares them.
func rebuild(code *Code, whole [][]byte, have, want uint64) error {
	units, marks := make([][]byte, len(whole)), make([]bool, len(whole))
	for i := range units {
		if have>>i&1 == 1 {
			units[i] = whole[i]
		}
		marks[i] = want>>i&1 == 1
	}
	if err := code.Reconstruct(units, marks); err != nil {
		return err
	}
	for i := range units {
		if marks[i] && !bytes.Equal(units[i], whole[i]) {
			return fmt.Errorf("unit %d differs", i)
		}
		if !marks[i] && have>>i&1 == 0 && units[i] != nil {
			return fmt.Errorf("unit %d was made though nobody wanted it", i)
		}
	}
	return nil
}

// What Choose names is enough, and no more than a group for one loss of it.
func TestChooseReadsLittle(t *testing.T) {
	code, err := new(Codes).Get(local)
	if err != nil {
		t.Fatal(err)
	}
	whole := shardsOf(t, code)
	patterns(local.Width(), 3, func(lost uint64) {
		var order []int
		for i := range local.Width() {
			if lost>>i&1 == 0 {
				order = append(order, i)
			}
		}
		read, ok := local.Choose(0, order, lost)
		if !ok || read&lost != 0 || !local.Enough(read, lost) {
			t.Fatalf("lost %b: Choose = %b, %v", lost, read, ok)
		}
		if err := rebuild(code, whole, read, lost); err != nil {
			t.Fatalf("lost %b, read %b: %v", lost, read, err)
		}
		most := local.K
		if bits.OnesCount64(lost) == 1 && lost&local.globals() == 0 {
			most = local.K / 2
		}
		if n := bits.OnesCount64(read); n > most {
			t.Fatalf("lost %b: %d units are read, want %d at most", lost, n, most)
		}
	})
	// With what is at hand already, only the rest is read.
	if read, ok := local.Choose(0b111100, []int{1, 12, 7, 14}, 1); !ok || read != 1<<1|1<<12 {
		t.Errorf("Choose = %b, %v, want the rest of the group", read, ok)
	}
	if _, ok := local.Choose(0b111100, []int{1, 7, 14}, 1); ok {
		t.Error("Choose found enough in seven units that leave the group incomplete")
	}
}

// Spare is compared with its definition.
func TestSpareIsTheLeastThatBreaks(t *testing.T) {
	for _, s := range []Scheme{local, {K: 2, M: 3, Local: 2}, {K: 4, M: 4, Local: 2}, {K: 4, M: 2}} {
		n := s.Width()
		all := uint64(1)<<n - 1
		patterns(n, 4, func(lost uint64) {
			got := s.Spare(lost)
			if !s.Decodes(all &^ lost) {
				if got >= 0 {
					t.Fatalf("%+v lost %b: Spare = %d though it does not decode", s, lost, got)
				}
				return
			}
			want := 0
			for broken := false; ; want++ {
				patterns(n, want+1, func(more uint64) {
					broken = broken || !s.Decodes(all&^(lost|more))
				})
				if broken {
					break
				}
			}
			if got != want {
				t.Fatalf("%+v lost %b: Spare = %d, want %d", s, lost, got, want)
			}
		})
	}
}

func TestSchemesThatNobodyServes(t *testing.T) {
	for _, s := range []Scheme{{}, {K: 1, M: -1}, {K: 60, M: 5}, {K: 12, M: 4, Local: 3}, {K: 11, M: 4, Local: 2}, {K: 12, M: 2, Local: 2},
		{K: 12, M: 5, Local: 2}, {K: 32, M: 4, Local: 2}, {K: 4, M: 2, Local: 1}, {K: 4, M: 2, Local: -1}} {
		if _, err := new(Codes).Get(s); err == nil {
			t.Errorf("%+v accepted", s)
		}
	}
}

func BenchmarkLocal(b *testing.B) {
	code, err := new(Codes).Get(local)
	if err != nil {
		b.Fatal(err)
	}
	units := make([][]byte, local.Width())
	for i := range units {
		units[i] = fill(256<<10, uint64(i))
	}
	b.Run("encode", func(b *testing.B) {
		b.SetBytes(int64(local.K) * 256 << 10)
		for b.Loop() {
			if err := code.Encode(units); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("one lost", func(b *testing.B) {
		b.SetBytes(256 << 10)
		want := make([]bool, len(units))
		want[3] = true
		for b.Loop() {
			units[3] = units[3][:0]
			if err := code.Reconstruct(units, want); err != nil {
				b.Fatal(err)
			}
		}
	})
}
