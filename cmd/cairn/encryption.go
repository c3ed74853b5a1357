package main

import (
	"fmt"
	"net/url"

	"github.com/spf13/cobra"

	"cairn/admin"
	"cairn/sse"
)

func encryptionCommand() *cobra.Command {
	return group("encryption", "Rotate the keys of encryption at rest", encryptionRotateCommand())
}

func encryptionRotateCommand() *cobra.Command {
	return identityCommand(&cobra.Command{Use: "rotate [KEY]", Short: "Give a master key a new version and wrap all data keys under it anew",
		Long: "Give a master key a new version and wrap all data keys under it anew, as a job: no object is read or written for it.\n\n" +
			"KEY is " + sse.StoreKey + " (the default), which SSE-S3 uses, or a key of SSE-KMS. What was wrapped under older versions can be read\n" +
			"all the time: they stay in the keys file, of which a new backup is due. A key of Vault's transit engine is rotated there\n" +
			"first; this command then wraps the data keys anew. Where several nodes have a copy of the keys file, its keys cannot be\n" +
			"rotated yet.",
		Args: usageArgs(cobra.MaximumNArgs(1))},
		func(c *cobra.Command, a *adminClient, o outputFlag, args []string) error {
			key := sse.StoreKey
			if len(args) > 0 {
				key = args[0]
			}
			var r admin.Rotated
			if err := a.call(c.Context(), "POST", "/api/v1/encryption/rotate?key="+url.QueryEscape(key), &r); err != nil {
				return err
			}
			if r.Version > 0 {
				fmt.Fprintln(c.ErrOrStderr(), "Back the keys file up again: what is written from now on needs the new version.")
			}
			return o.print(c.OutOrStdout(), r, func() string {
				if r.Version == 0 {
					return fmt.Sprintf("%s: job %s wraps data keys anew", r.Key, r.Job.ID)
				}
				return fmt.Sprintf("%s has version %d; job %s wraps data keys anew", r.Key, r.Version, r.Job.ID)
			})
		})
}
