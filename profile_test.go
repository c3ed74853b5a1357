package cairn_test

import (
	"encoding/json"
	"errors"
	"testing"

	"cairn"
)

func TestProfiles(t *testing.T) {
	for _, tt := range []struct {
		text              string
		want              cairn.Profile
		tolerance, quorum int
	}{
		{"4+2", cairn.Profile{K: 4, M: 2}, 2, 5},
		{"1+0", cairn.Profile{K: 1}, 0, 1},
		{"2+1", cairn.Profile{K: 2, M: 1}, 1, 3},
		{"12+4", cairn.Profile{K: 12, M: 4}, 4, 13},
		{"12+2+2", cairn.Profile{K: 12, M: 4, Local: 2}, 3, 14},
		{"4+2+1", cairn.Profile{K: 4, M: 3, Local: 2}, 2, 6},
	} {
		got, err := cairn.ParseProfile(tt.text)
		if err != nil || got != tt.want || got.String() != tt.text {
			t.Errorf("%s: got %+v (%s), %v", tt.text, got, got, err)
		}
		if got.Tolerance() != tt.tolerance || got.WriteQuorum() != tt.quorum {
			t.Errorf("%s: tolerance %d, write quorum %d; want %d, %d", tt.text, got.Tolerance(), got.WriteQuorum(), tt.tolerance, tt.quorum)
		}
		text, err := json.Marshal(map[string]cairn.Profile{"p": got})
		var back map[string]cairn.Profile
		if err != nil || json.Unmarshal(text, &back) != nil || back["p"] != got {
			t.Errorf("%s as JSON: %s, %v, back %+v", tt.text, text, err, back)
		}
	}
	for _, bad := range []string{"", "4", "4+", "+2", "0+2", "4+-1", "60+5", "12+3+2", "12+2+0", "12+0+2", "12+2+3", "11+2+2", "32+2+2", "12+2+2+2", "4+x"} {
		if p, err := cairn.ParseProfile(bad); !errors.Is(err, cairn.ErrInvalid) {
			t.Errorf("%q: got %v, %v, want a refusal", bad, p, err)
		}
	}
}
