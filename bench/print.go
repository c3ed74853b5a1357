package bench

import (
	"fmt"
	"time"
)

// Header is the line above printed Results.
const Header = "OP      SIZE     CLIENTS      OPS/S       MiB/S        P50        P99   ERRORS"

// String prints one line under Header.
func (r Result) String() string {
	line := fmt.Sprintf("%-7s %-8s %7d %10.0f %11.1f %10s %10s %8d", r.Op, SizeText(r.Size), r.Clients, r.OpsPerSec,
		r.MiBPerSec, shortTime(r.P50), shortTime(r.P99), r.Errors)
	if r.LastError != "" {
		line += "  " + r.LastError
	}
	return line
}

// SizeText prints sizes as the tables do: "4KiB", "16MiB".
func SizeText(n int) string {
	switch {
	case n == 0:
		return "-"
	case n >= 1<<20 && n%(1<<20) == 0:
		return fmt.Sprintf("%dMiB", n>>20)
	case n >= 1<<10 && n%(1<<10) == 0:
		return fmt.Sprintf("%dKiB", n>>10)
	}
	return fmt.Sprintf("%dB", n)
}

func shortTime(d time.Duration) string {
	if d < time.Millisecond {
		return d.Round(time.Microsecond).String()
	}
	return d.Round(10 * time.Microsecond).String()
}
