package main

import (
	"fmt"
	"net/url"
	"os"
	"time"

	"github.com/spf13/cobra"

	"cairn/admin"
	"cairn/iam"
)

func keyCommand() *cobra.Command {
	return group("key", "Manage access keys", keyCreateCommand(), keyListCommand(), keyRotateCommand(),
		keyStateCommand("disable", "Refuse a key until it is enabled again", true), keyStateCommand("enable", "Let a disabled key be used again", false),
		removeCommand("rm ACCESS-KEY", "Remove a key", "key", "/api/v1/keys/"))
}

func credentialsText(c iam.Credentials) string {
	s := fmt.Sprintf("access key  %s\nsecret key  %s", c.AccessKey, c.SecretKey)
	if !c.Expires.IsZero() {
		s += "\nexpires     " + timeText(c.Expires)
	}
	return s
}

func keyCreateCommand() *cobra.Command {
	var q iam.NewKey
	var life time.Duration
	var policy string
	c := identityCommand(&cobra.Command{Use: "create USER", Short: "Make a further key of a user; with --policy a service account, which may do less",
		Args: usageArgs(cobra.ExactArgs(1))},
		func(c *cobra.Command, a *adminClient, o outputFlag, args []string) error {
			q.User = args[0]
			if policy != "" {
				doc, err := os.ReadFile(policy)
				if err != nil {
					return err
				}
				q.Policy = string(doc)
			}
			if life > 0 {
				q.Expires = time.Now().Add(life).UTC().Truncate(time.Second)
			}
			var made iam.Credentials
			if err := a.send(c.Context(), "POST", "/api/v1/keys", q, &made); err != nil {
				return err
			}
			return o.print(c.OutOrStdout(), made, func() string { return credentialsText(made) })
		})
	c.Flags().StringVar(&q.AccessKey, "access-key", "", "access key (default: made)")
	c.Flags().StringVar(&q.SecretKey, "secret-key", "", "secret key (default: made)")
	c.Flags().StringVar(&policy, "policy", "", "file with a policy that limits the key")
	c.Flags().DurationVar(&life, "expires", 0, "how long the key may be used (default: for ever)")
	return c
}

func keyListCommand() *cobra.Command {
	var user string
	c := identityCommand(&cobra.Command{Use: "ls", Short: "List access keys", Args: usageArgs(cobra.NoArgs)},
		func(c *cobra.Command, a *adminClient, o outputFlag, _ []string) error {
			var list []iam.Key
			if err := a.call(c.Context(), "GET", "/api/v1/keys?user="+url.QueryEscape(user), &list); err != nil {
				return err
			}
			return o.print(c.OutOrStdout(), list, func() string {
				rows := [][]string{{"ACCESS KEY", "USER", "STATE", "EXPIRES", "LAST USED"}}
				for _, k := range list {
					rows = append(rows, []string{k.AccessKey, k.User, stateText(k.Disabled), timeText(k.Expires), timeText(k.LastUsed)})
				}
				return tableText(rows)
			})
		})
	c.Flags().StringVar(&user, "user", "", "only keys of this user")
	return c
}

func keyRotateCommand() *cobra.Command {
	var grace time.Duration
	c := identityCommand(&cobra.Command{Use: "rotate ACCESS-KEY", Short: "Make a new key with the rights of an old one, which ends after --grace",
		Args: usageArgs(cobra.ExactArgs(1))},
		func(c *cobra.Command, a *adminClient, o outputFlag, args []string) error {
			var made iam.Credentials
			path := "/api/v1/keys/" + url.PathEscape(args[0]) + "/rotate?grace=" + grace.String()
			if err := a.call(c.Context(), "POST", path, &made); err != nil {
				return err
			}
			return o.print(c.OutOrStdout(), made, func() string { return credentialsText(made) })
		})
	c.Flags().DurationVar(&grace, "grace", 24*time.Hour, "how long the old key may still be used; 0 ends it now")
	return c
}

func keyStateCommand(name, short string, disabled bool) *cobra.Command {
	return identityCommand(&cobra.Command{Use: name + " ACCESS-KEY", Short: short, Args: usageArgs(cobra.ExactArgs(1))},
		func(c *cobra.Command, a *adminClient, o outputFlag, args []string) error {
			var done admin.Done
			q := map[string]bool{"disabled": disabled}
			if err := a.send(c.Context(), "PATCH", "/api/v1/keys/"+url.PathEscape(args[0]), q, &done); err != nil {
				return err
			}
			return o.print(c.OutOrStdout(), done, func() string { return "key " + args[0] + " is " + stateText(disabled) })
		})
}
