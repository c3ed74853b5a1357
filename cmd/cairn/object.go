package main

import (
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"cairn/admin"
)

func objectCommand() *cobra.Command {
	return group("object", "Look at objects", objectShowCommand())
}

func objectShowCommand() *cobra.Command {
	var output outputFlag
	var flags adminFlags
	var version string
	var verify bool
	c := &cobra.Command{
		Use:   "show BUCKET/KEY",
		Short: "Show a version, its blobs, and where every shard is",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			bucket, key, ok := strings.Cut(args[0], "/")
			if !ok || bucket == "" || key == "" {
				return usageError(c, errors.New("want BUCKET/KEY"))
			}
			a, err := flags.client()
			if err != nil {
				return err
			}
			var o admin.Object
			if err := a.call(c.Context(), "GET", objectPath(bucket, key, version, verify), &o); err != nil {
				return err
			}
			return output.print(c.OutOrStdout(), o, func() string { return objectText(o) })
		},
	}
	output.register(c)
	flags.register(c)
	c.Flags().StringVar(&version, "version-id", "", "version to show (default: the current one)")
	c.Flags().BoolVar(&verify, "verify", false, "read and check every byte of every shard")
	return c
}

func objectText(o admin.Object) string {
	var b strings.Builder
	v := o.Version
	fmt.Fprintf(&b, "%s/%s\nversion   %s, %s, etag %s, %s\n", v.Bucket, v.Key, v.ID, bytesText(v.Size), v.ETag,
		v.Modified.UTC().Format(time.RFC3339))
	if len(o.Blobs) == 0 {
		fmt.Fprintf(&b, "inline    %d bytes in the metadata row, on every voter\n", o.Inline)
	}
	for _, blob := range o.Blobs {
		fmt.Fprintf(&b, "\nblob %s at %d, %s, profile %s, unit %s, epoch %d, %d spare\n", blob.Ref, blob.Offset,
			bytesText(blob.Ref.Length), blob.Profile, bytesText(blob.Unit), blob.Epoch, blob.Spare)
		t := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
		fmt.Fprintln(t, "SLOT\tROLE\tSTATE\tLENGTH\tOFFSET\tFILE")
		for _, s := range blob.Shards {
			where := s.Path
			if where == "" {
				where = s.DrivePath + " (" + s.DriveState.String() + ")"
			}
			fmt.Fprintf(t, "%d\t%s\t%s\t%d\t%d\t%s\n", s.Slot, s.Role, s.State, s.Length, s.Offset, where)
			if s.Error != "" {
				fmt.Fprintf(t, "\t  %s\n", s.Error)
			}
		}
		t.Flush()
	}
	return b.String()
}
