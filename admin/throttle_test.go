package admin

import (
	"context"
	"strings"
	"testing"

	"cairn"
)

type throttling struct{ limits cairn.Throttle }

func (l *throttling) Throttle(context.Context) (Throttle, error) {
	return Throttle{Throttle: l.limits, Drives: []DrivePace{{Path: "/mnt/a", Pace: cairn.Pace{Band: l.limits.Drive, Why: "no clients"}}}}, nil
}

func (l *throttling) SetThrottle(_ context.Context, t cairn.Throttle) error {
	if err := t.Validate(); err != nil {
		return err
	}
	l.limits = t
	return nil
}

func TestThrottleRoutes(t *testing.T) {
	l := &throttling{limits: cairn.DefaultThrottle()}
	with := newServer(t, &cluster{}).cfg
	with.Throttling = l
	s, err := New(with)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		method, query, as string
		code              int
		has               string
	}{
		{"GET", "", "", 401, ""},
		{"POST", "?drive-floor=1048576", "", 401, ""},
		{"GET", "", "root:secret", 200, `"why": "no clients"`},
		{"POST", "?drive-floor=0", "root:secret", 400, "pause its job"},
		{"POST", "?drive-floor=1000", "root:secret", 400, "1 MiB"},
		{"POST", "?node-ceiling=99999999999999", "root:secret", 400, "64 GiB"},
		{"POST", "?drive-ceiling=2097152", "root:secret", 400, "lower the floor too"},
		{"POST", "?drive-ceiling=fast", "root:secret", 400, "bytes per second"},
		{"POST", "?drive-floor=1048576&drive-ceiling=2097152", "root:secret", 200, `"ceiling": 2097152`},
	} {
		w := ask(s, tt.method, "/api/v1/repair/throttle"+tt.query, tt.as, loopback)
		if w.Code != tt.code || !strings.Contains(w.Body.String(), tt.has) {
			t.Errorf("%s %s: %d %s, want %d and %s", tt.method, tt.query, w.Code, w.Body, tt.code, tt.has)
		}
	}
	want := cairn.DefaultThrottle()
	if want.Drive = (cairn.Band{Floor: 1 << 20, Ceiling: 2 << 20}); l.limits != want {
		t.Errorf("limits %+v, want %+v: what was refused or not named stays", l.limits, want)
	}
	if w := ask(s, "POST", "/api/v1/repair/throttle?default=1", "root:secret", loopback); w.Code != 200 || l.limits != cairn.DefaultThrottle() {
		t.Errorf("default: %d, %+v", w.Code, l.limits)
	}
}
