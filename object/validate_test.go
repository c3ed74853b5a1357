package object

import (
	"errors"
	"strings"
	"testing"

	"cairn"
)

func TestBucketNames(t *testing.T) {
	for _, c := range []struct {
		name string
		ok   bool
	}{
		{"abc", true},
		{"model-weights.v2", true},
		{"0numbers9", true},
		{"1.2.3", true},
		{"xn-almost", true},
		{strings.Repeat("a", 63), true},
		{strings.Repeat("a", 64), false},
		{"ab", false},
		{"", false},
		{"Upper", false},
		{"under_score", false},
		{"dot..dot", false},
		{".lead", false},
		{"trail.", false},
		{"-lead", false},
		{"trail-", false},
		{"dash-.dot", false},
		{"dot.-dash", false},
		{"192.168.5.4", false},
		{"xn--punycode", false},
		{"sthree-own", false},
		{"amzn-s3-demo-bucket", false},
		{"alias-s3alias", false},
		{"lambda--ol-s3", false},
		{"point.mrap", false},
		{"zone--x-s3", false},
		{"rows--table-s3", false},
		{"späce", false},
		{"a/b", false},
		{"a b", false},
		{"nul\x00", false},
	} {
		err := checkBucketName("test", c.name)
		if (err == nil) != c.ok || (err != nil && (!errors.Is(err, ErrBucketName) || !errors.Is(err, cairn.ErrInvalid))) {
			t.Errorf("%q: got %v, want ok %t", c.name, err, c.ok)
		}
	}
}

func TestKeys(t *testing.T) {
	for _, c := range []struct {
		key  string
		want error
	}{
		{"a", nil},
		{"/", nil},
		{"//a/../b/.", nil},
		{"back\\slash", nil},
		{"ünïcode/キー", nil},
		{strings.Repeat("k", 1024), nil},
		{strings.Repeat("ü", 512), nil},
		{strings.Repeat("k", 1025), ErrKeyTooLong},
		{strings.Repeat("ü", 512) + "k", ErrKeyTooLong},
		{"", ErrKey},
		{"nul\x00", ErrKey},
		{"\xff", ErrKey},
		{"cut\xc3", ErrKey},
	} {
		if err := checkKey("test", "b", c.key); !errors.Is(err, c.want) || (c.want != nil && !errors.Is(err, cairn.ErrInvalid)) {
			t.Errorf("%.20q: got %v, want %v", c.key, err, c.want)
		}
	}
}

// Only what certainly had no effect may be discarded (I5).
func TestNeverCommitted(t *testing.T) {
	definite := map[error]bool{
		cairn.ErrNotFound: true, cairn.ErrExists: true, cairn.ErrPrecondition: true, cairn.ErrInvalid: true,
		cairn.ErrForbidden: true, cairn.ErrTooLarge: true, cairn.ErrStaleEpoch: true,
	}
	for _, kind := range cairn.Kinds() {
		if got := neverCommitted(fail("meta", "x", kind)); got != definite[kind] {
			t.Errorf("%v: got %t, want %t", kind, got, definite[kind])
		}
	}
	if neverCommitted(errors.New("what is this")) {
		t.Error("an error without a kind was taken for a definite one")
	}
}
