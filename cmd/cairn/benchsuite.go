package main

import (
	"os"

	"github.com/spf13/cobra"

	"cairn/bench"
)

func benchSuiteCommand() *cobra.Command {
	cfg := bench.SuiteConfig{}
	c := &cobra.Command{
		Use:   "suite",
		Short: "Measure this machine and a server of its own, as `make bench` does",
		Long: "Measure what this machine does at best, start a server on six drives of one directory, run the whole matrix of\n" +
			"loads, lose drives, and print the table. Everything stored is removed at the end.",
		Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if cfg.Binary, err = os.Executable(); err != nil {
				return err
			}
			cfg.Out, cfg.Log = c.OutOrStdout(), c.ErrOrStderr()
			_, err = bench.RunSuite(c.Context(), cfg)
			return err
		},
	}
	c.Flags().StringVar(&cfg.Dir, "dir", "", "directory on the disk to measure (default: the system's temporary directory)")
	c.Flags().StringVar(&cfg.Results, "results", "", "file for the rows as JSON")
	c.Flags().StringVar(&cfg.Only, "only", "", `one stage: "machine limits", commits, matrix or mount (default: all; the rest needs what matrix left)`)
	c.Flags().BoolVar(&cfg.Short, "short", false, "measure a tenth of the matrix")
	return c
}
