package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"cairn/admin"
	"cairn/iam"
)

func policyCommand() *cobra.Command {
	return group("policy", "Manage policies, in AWS's policy language", policyListCommand(), policyShowCommand(), policyPutCommand(),
		removeCommand("rm NAME", "Remove a policy that nobody has", "policy", "/api/v1/policies/"), policySimulateCommand())
}

func groupCommand() *cobra.Command {
	return group("group", "Manage groups, which give policies to their users", groupPutCommand(), groupListCommand(),
		removeCommand("rm NAME", "Remove a group that nobody is in", "group", "/api/v1/groups/"))
}

func policies(c *cobra.Command, a *adminClient) (list []iam.NamedPolicy, err error) {
	return list, a.call(c.Context(), "GET", "/api/v1/policies", &list)
}

func policyListCommand() *cobra.Command {
	return identityCommand(&cobra.Command{Use: "ls", Short: "List policies", Args: usageArgs(cobra.NoArgs)},
		func(c *cobra.Command, a *adminClient, o outputFlag, _ []string) error {
			list, err := policies(c, a)
			if err != nil {
				return err
			}
			return o.print(c.OutOrStdout(), list, func() string {
				rows := [][]string{{"NAME", "KIND", "UPDATED"}}
				for _, p := range list {
					kind := "stored"
					if p.Builtin {
						kind = "built in"
					}
					rows = append(rows, []string{p.Name, kind, timeText(p.Updated)})
				}
				return tableText(rows)
			})
		})
}

func policyShowCommand() *cobra.Command {
	return identityCommand(&cobra.Command{Use: "show NAME", Short: "Print a policy's document", Args: usageArgs(cobra.ExactArgs(1))},
		func(c *cobra.Command, a *adminClient, o outputFlag, args []string) error {
			list, err := policies(c, a)
			if err != nil {
				return err
			}
			for _, p := range list {
				if p.Name == args[0] {
					return o.print(c.OutOrStdout(), json.RawMessage(p.Document), func() string { return p.Document })
				}
			}
			return fmt.Errorf("there is no policy %s (see `cairn policy ls`)", args[0])
		})
}

func policyPutCommand() *cobra.Command {
	return identityCommand(&cobra.Command{Use: "put NAME FILE", Short: "Store a policy's document, or replace it; FILE - is the standard input",
		Args: usageArgs(cobra.ExactArgs(2))},
		func(c *cobra.Command, a *adminClient, o outputFlag, args []string) error {
			in := c.InOrStdin()
			if args[1] != "-" {
				f, err := os.Open(args[1])
				if err != nil {
					return err
				}
				defer f.Close()
				in = f
			}
			doc, err := io.ReadAll(io.LimitReader(in, iam.MaxPolicyBytes+1))
			if err != nil {
				return err
			}
			if _, err := iam.ParsePolicy(doc); err != nil {
				return fmt.Errorf("%s: %w", args[1], err)
			}
			var done admin.Done
			if err := a.send(c.Context(), "PUT", "/api/v1/policies/"+url.PathEscape(args[0]), json.RawMessage(doc), &done); err != nil {
				return err
			}
			return o.print(c.OutOrStdout(), done, func() string { return "policy " + args[0] + " is stored" })
		})
}

func policySimulateCommand() *cobra.Command {
	var q iam.Simulation
	var values []string
	c := identityCommand(&cobra.Command{Use: "simulate USER ACTION [BUCKET[/KEY]]", Short: "Ask whether a user may do something, and which statement decides",
		Example: "  cairn policy simulate ann s3:GetObject models/bert/config.json --owner root\n" +
			"  cairn policy simulate ann s3:ListBucket models --value s3:prefix=bert/",
		Args: usageArgs(cobra.RangeArgs(2, 3))},
		func(c *cobra.Command, a *adminClient, o outputFlag, args []string) error {
			q.User, q.Action = args[0], args[1]
			if len(args) == 3 {
				q.Bucket, q.Object, _ = strings.Cut(args[2], "/")
			}
			q.Values = map[string][]string{}
			for _, v := range values {
				name, value, ok := strings.Cut(v, "=")
				if !ok {
					return usageError(c, fmt.Errorf("--value %s: want KEY=VALUE", v))
				}
				q.Values[name] = append(q.Values[name], value)
			}
			var v iam.Simulated
			if err := a.send(c.Context(), "POST", "/api/v1/simulate", q, &v); err != nil {
				return err
			}
			return o.print(c.OutOrStdout(), v, func() string { return v.Verdict + ": " + v.Why })
		})
	c.Flags().StringVar(&q.Key, "access-key", "", "one of the user's keys, which its own policy may limit")
	c.Flags().StringVar(&q.Owner, "owner", "", "user that owns the bucket (default: who owns it; of one that is not there the user itself)")
	c.Flags().StringArrayVar(&values, "value", nil, "a condition key's value, KEY=VALUE; repeat for each")
	return c
}

func groupPutCommand() *cobra.Command {
	var g iam.Group
	c := identityCommand(&cobra.Command{Use: "put NAME", Short: "Make a group, or replace its policies", Args: usageArgs(cobra.ExactArgs(1))},
		func(c *cobra.Command, a *adminClient, o outputFlag, args []string) error {
			g.Name = args[0]
			if err := a.send(c.Context(), "PUT", "/api/v1/groups/"+url.PathEscape(g.Name), g, &g); err != nil {
				return err
			}
			return o.print(c.OutOrStdout(), g, func() string { return g.Name + ": " + strings.Join(g.Policies, ", ") })
		})
	c.Flags().StringSliceVar(&g.Policies, "policy", nil, "policies of the group's users")
	return c
}

func groupListCommand() *cobra.Command {
	return identityCommand(&cobra.Command{Use: "ls", Short: "List groups", Args: usageArgs(cobra.NoArgs)},
		func(c *cobra.Command, a *adminClient, o outputFlag, _ []string) error {
			var list []iam.Group
			if err := a.call(c.Context(), "GET", "/api/v1/groups", &list); err != nil {
				return err
			}
			return o.print(c.OutOrStdout(), list, func() string {
				rows := [][]string{{"NAME", "POLICIES"}}
				for _, g := range list {
					rows = append(rows, []string{g.Name, strings.Join(g.Policies, ",")})
				}
				return tableText(rows)
			})
		})
}
