package main

import (
	"fmt"
	"net/url"

	"github.com/spf13/cobra"

	"cairn/admin"
)

func bucketCommand() *cobra.Command {
	return group("bucket", "Show buckets and set their quotas", bucketListCommand(), bucketQuotaCommand())
}

func bucketListCommand() *cobra.Command {
	return identityCommand(&cobra.Command{Use: "ls", Short: "List all buckets, what they hold and what they may hold", Args: usageArgs(cobra.NoArgs)},
		func(c *cobra.Command, a *adminClient, o outputFlag, _ []string) error {
			var list []admin.Bucket
			if err := a.call(c.Context(), "GET", "/api/v1/buckets", &list); err != nil {
				return err
			}
			return o.print(c.OutOrStdout(), list, func() string {
				rows := [][]string{{"NAME", "OWNER", "OBJECTS", "VERSIONS", "BYTES", "QUOTA", "VERSIONING"}}
				for _, b := range list {
					rows = append(rows, []string{b.Name, b.Owner, fmt.Sprint(b.Objects), fmt.Sprint(b.Versions), bytesText(b.Bytes), quotaText(b.QuotaBytes),
						b.Versioning})
				}
				return tableText(rows)
			})
		})
}

func quotaText(n int64) string {
	if n == 0 {
		return "none"
	}
	return bytesText(n)
}

func bucketQuotaCommand() *cobra.Command {
	return identityCommand(&cobra.Command{Use: "quota NAME SIZE|none", Short: "Limit the bytes of all versions in a bucket",
		Long: "Limit the bytes that all versions in a bucket hold together, for example 500GiB; none lifts the limit.\n\n" +
			"A write that would exceed it is refused with 403 QuotaExceeded. What is there already stays. Writes that are committed\n" +
			"at the same moment may together exceed it by their own size.",
		Args: usageArgs(cobra.ExactArgs(2))},
		func(c *cobra.Command, a *adminClient, o outputFlag, args []string) error {
			var q admin.Quota
			if args[1] != "none" {
				var size byteSize
				if err := size.Set(args[1]); err != nil {
					return usageError(c, err)
				}
				q.QuotaBytes = int64(size)
			}
			var b admin.Bucket
			if err := a.send(c.Context(), "PUT", "/api/v1/buckets/"+url.PathEscape(args[0])+"/quota", q, &b); err != nil {
				return err
			}
			return o.print(c.OutOrStdout(), b, func() string {
				return fmt.Sprintf("%s: %s of %s", b.Name, bytesText(b.Bytes), quotaText(b.QuotaBytes))
			})
		})
}
