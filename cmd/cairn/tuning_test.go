package main

import "testing"

func TestProcessors(t *testing.T) {
	for _, c := range []struct{ cores, drives, want int }{
		{1, 1, 3}, {2, 6, 8}, {2, 60, 8}, {16, 6, 28}, {64, 24, 112},
	} {
		if got := processors(c.cores, c.drives); got != c.want {
			t.Errorf("processors(%d cores, %d drives) = %d, want %d", c.cores, c.drives, got, c.want)
		}
	}
}

func TestMemoryLimit(t *testing.T) {
	for _, c := range []struct {
		live uint64
		want int64
	}{
		{0, softMemoryBytes}, {320 << 20, softMemoryBytes}, {4 << 30, 5 << 30},
	} {
		if got := memoryLimit(c.live); got != c.want {
			t.Errorf("memoryLimit(%d) = %d, want %d", c.live, got, c.want)
		}
	}
}
