package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// build describes the binary, from what the Go linker recorded.
type build struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func thisBuild() build {
	b := build{Version: "unknown", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	b.Version = info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			b.Revision = s.Value
		}
	}
	return b
}

func versionCommand() *cobra.Command {
	var output outputFlag
	c := &cobra.Command{Use: "version", Short: "Print the version of this binary", Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			b := thisBuild()
			return output.print(c.OutOrStdout(), b, func() string {
				return fmt.Sprintf("cairn %s %s %s %s", b.Version, b.Revision, b.Go, b.Platform)
			})
		}}
	output.register(c)
	return c
}
