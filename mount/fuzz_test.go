package mount

import (
	"strings"
	"testing"
)

// An index is written by others: whatever it says, what is fetched lies beside it.
func FuzzIndex(f *testing.F) {
	f.Add([]byte(`{"weight_map": {"a": "b", "c": "../d", "e": "/f", "g": "", "h": "."}}`))
	f.Add([]byte("{"))
	f.Fuzz(func(t *testing.T, index []byte) {
		files, err := shardsOf(index)
		if err != nil {
			return
		}
		for i, name := range files {
			if name == "" || name == "." || name == ".." || strings.Contains(name, "/") || i > 0 && files[i-1] >= name {
				t.Errorf("%q", files)
			}
		}
	})
}
