package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"cairn/admin"
)

func whoamiCommand() *cobra.Command {
	return identityCommand(&cobra.Command{Use: "whoami", Short: "Show whose credentials are used, and what they allow in the admin interface", Args: usageArgs(cobra.NoArgs)},
		func(c *cobra.Command, a *adminClient, o outputFlag, _ []string) error {
			var me admin.Me
			if err := a.call(c.Context(), "GET", "/api/v1/me", &me); err != nil {
				return err
			}
			return o.print(c.OutOrStdout(), me, func() string {
				return fmt.Sprintf("%s (%s)\n%s", me.Name, me.AccessKey, strings.Join(me.Actions, "\n"))
			})
		})
}

func metricsCommand() *cobra.Command {
	return group("metrics", "Show what the server has measured", metricsHistoryCommand())
}

func metricsHistoryCommand() *cobra.Command {
	return identityCommand(&cobra.Command{Use: "history", Short: "Show the last 24 hours of this server process",
		Long: "Show rates and latencies of the last 24 hours, a line for ten seconds. They are kept in memory and begin anew with the\n" +
			"process; /metrics is for a Prometheus that keeps them longer.", Args: usageArgs(cobra.NoArgs)},
		func(c *cobra.Command, a *adminClient, o outputFlag, _ []string) error {
			var h admin.History
			if err := a.call(c.Context(), "GET", "/api/v1/history", &h); err != nil {
				return err
			}
			return o.print(c.OutOrStdout(), h, func() string {
				rows := [][]string{{"TIME", "REQUESTS/s", "ERRORS/s", "IN/s", "OUT/s", "P50", "P99", "USED", "REPAIR/s"}}
				for _, s := range h.Samples {
					rows = append(rows, []string{timeText(s.Time), fmt.Sprintf("%.1f", s.RequestsPerSec), fmt.Sprintf("%.1f", s.ErrorsPerSec),
						bytesText(int64(s.InBytesPerSec)), bytesText(int64(s.OutBytesPerSec)), fmt.Sprintf("%.1f ms", s.P50*1000),
						fmt.Sprintf("%.1f ms", s.P99*1000), bytesText(s.UsedBytes), bytesText(int64(s.RepairBytesPerS))})
				}
				return tableText(rows)
			})
		})
}

func apiCommand() *cobra.Command {
	return identityCommand(&cobra.Command{Use: "api", Short: "Print the description of the admin API (OpenAPI 3.1, JSON)", Args: usageArgs(cobra.NoArgs)},
		func(c *cobra.Command, a *adminClient, _ outputFlag, _ []string) error {
			var doc json.RawMessage
			if err := a.call(c.Context(), "GET", "/api/v1/openapi.json", &doc); err != nil {
				return err
			}
			_, err := fmt.Fprintln(c.OutOrStdout(), string(doc))
			return err
		})
}
