package main

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"
)

func TestPlan(t *testing.T) {
	var out, errs bytes.Buffer
	args := []string{"plan", "--profile", "8+4", "--afr", "1.4%", "--repair-time", "24h", "--drives", "48", "-o", "json"}
	if code := run(context.Background(), args, strings.NewReader(""), &out, &errs); code != 0 {
		t.Fatalf("exit %d: %s", code, errs.String())
	}
	var a planAnswer
	if err := json.Unmarshal(out.Bytes(), &a); err != nil {
		t.Fatal(err)
	}
	if a.MTTDLYears < 8.0e15 || a.MTTDLYears > 8.2e15 || a.PoolMTTDLYears >= a.MTTDLYears || a.PoolYearlyLoss <= 0 {
		t.Errorf("%+v", a)
	}
	for _, bad := range []string{"--afr 0", "--afr 140%", "--profile 8", "--profile 12+3+1", "--repair-time 0s", "--drives 3", "--correlation 0.5", "--latent -1%"} {
		errs.Reset()
		args := append([]string{"plan"}, strings.Fields(bad)...)
		if code := run(context.Background(), args, strings.NewReader(""), &out, &errs); code != exitUsage || errs.Len() == 0 {
			t.Errorf("%s: exit %d %q", bad, code, errs.String())
		}
	}
}
