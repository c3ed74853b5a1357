package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// outputFlag is the -o flag of everything that prints.
type outputFlag string

func (o *outputFlag) register(c *cobra.Command) {
	c.Flags().VarP(o, "output", "o", "output format: text or json")
}

// String, Set and Type make outputFlag a flag value.
func (o *outputFlag) String() string {
	if *o == "" {
		return "text"
	}
	return string(*o)
}

// Set accepts "text" and "json".
func (o *outputFlag) Set(s string) error {
	if s != "text" && s != "json" {
		return fmt.Errorf("want text or json")
	}
	*o = outputFlag(s)
	return nil
}

// Type names the value in the help.
func (o *outputFlag) Type() string { return "format" }

func (o outputFlag) json() bool { return o == "json" }

// print writes v as JSON, or what text returns.
func (o outputFlag) print(w io.Writer, v any, text func() string) error {
	if !o.json() {
		_, err := fmt.Fprintln(w, strings.TrimRight(text(), "\n"))
		return err
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// bytesText prints a size with three digits and a binary unit.
func bytesText(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, u := float64(n)/1024, 0
	for f >= 1000 && u < len(units)-1 {
		f, u = f/1024, u+1
	}
	return fmt.Sprintf("%.3g %ciB", f, units[u])
}

// parseSize reads "4096", "64KiB", "1MiB", "1G".
func parseSize(s string) (int64, error) {
	var n float64
	var unit string
	if _, err := fmt.Sscanf(s, "%g", &n); err != nil || n < 0 {
		return 0, fmt.Errorf("size %q: want a number and KiB, MiB, GiB or TiB", s)
	}
	unit = strings.ToUpper(strings.TrimLeft(s, "0123456789. "))
	switch strings.TrimSuffix(strings.TrimSuffix(unit, "B"), "I") {
	case "":
		return int64(n), nil
	case "K":
		return int64(n * (1 << 10)), nil
	case "M":
		return int64(n * (1 << 20)), nil
	case "G":
		return int64(n * (1 << 30)), nil
	case "T":
		return int64(n * (1 << 40)), nil
	}
	return 0, fmt.Errorf("size %q: want a number and KiB, MiB, GiB or TiB", s)
}

// byteSize is a flag of a number of bytes with a unit.
type byteSize int64

// String prints the value for the help.
func (b *byteSize) String() string {
	if *b == 0 {
		return ""
	}
	return strings.ReplaceAll(bytesText(int64(*b)), " ", "")
}

// Set reads "500GiB" and the like.
func (b *byteSize) Set(s string) error {
	n, err := parseSize(s)
	if err == nil && n <= 0 {
		err = fmt.Errorf("size %q: want more than nothing", s)
	}
	*b = byteSize(n)
	return err
}

// Type names the value in the help.
func (b *byteSize) Type() string { return "size" }
