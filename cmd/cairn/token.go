package main

import (
	"fmt"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"cairn"
	"cairn/admin"
)

func tokenCommand() *cobra.Command {
	return group("token", "Let new nodes into the cluster", tokenCreateCommand(), tokenListCommand())
}

const defaultTokenLife = time.Hour

func tokenCreateCommand() *cobra.Command {
	var output outputFlag
	var flags adminFlags
	var roles string
	var expires time.Duration
	c := &cobra.Command{
		Use:   "create",
		Short: "Make a token with which one node joins",
		Long: "Make a token with which one node joins, and show it this once: the cluster keeps a hash of it.\n\n" +
			"Whoever has it can add a node, so hand it over like a password.",
		Example: "  cairn token create --roles data --expires 30m",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := cairn.ParseRoles(roles)
			if err != nil {
				return usageError(c, err)
			}
			a, err := flags.client()
			if err != nil {
				return err
			}
			q := url.Values{"roles": {r.String()}, "expires": {expires.String()}}
			var k admin.NewToken
			if err := a.call(c.Context(), "POST", "/api/v1/tokens?"+q.Encode(), &k); err != nil {
				return err
			}
			fmt.Fprintf(c.ErrOrStderr(), "One node with the roles %s joins with it until %s:\n  cairn server --data DIR --advertise ITS-ADDRESS --join %s --roles %s --token …\n",
				k.Roles, k.Expires.Local().Format(time.RFC1123), k.Join, k.Roles)
			return output.print(c.OutOrStdout(), k, func() string { return k.Token + "\n" })
		},
	}
	c.Flags().StringVar(&roles, "roles", cairn.AllRoles.String(), "the roles that the node may have")
	c.Flags().DurationVar(&expires, "expires", defaultTokenLife, "how long the token is good")
	output.register(c)
	flags.register(c)
	return c
}

func tokenListCommand() *cobra.Command {
	var output outputFlag
	var flags adminFlags
	c := &cobra.Command{
		Use:   "ls",
		Short: "List tokens and who used them",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			a, err := flags.client()
			if err != nil {
				return err
			}
			var list []admin.Token
			if err := a.call(c.Context(), "GET", "/api/v1/tokens", &list); err != nil {
				return err
			}
			return output.print(c.OutOrStdout(), list, func() string { return tokensText(list, time.Now()) })
		},
	}
	output.register(c)
	flags.register(c)
	return c
}

func tokensText(list []admin.Token, now time.Time) string {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "TOKEN\tROLES\tCREATED\tSTATE")
	for _, k := range list {
		state := "good until " + k.Expires.Local().Format(time.DateTime)
		switch {
		case !k.Used.IsZero():
			state = "used by node " + k.Node.String()
		case now.After(k.Expires):
			state = "expired"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", k.ID, k.Roles, k.Created.Local().Format(time.DateTime), state)
	}
	t.Flush()
	return b.String()
}
