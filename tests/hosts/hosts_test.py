"""Jobs over several hosts: the same tokens as one process, what they say of the network, and what becomes of
a job when a link, a host or an interface is not what it should be.
"""

import os
import time
import unittest

from hosts_support import LINK_BYTES_PER_SECOND, HostsTest
from job_support import DEMO_MODEL, DONE, PEER_LOST, USAGE

OTHER_VERSION = os.environ.get("SLUICE_OTHER_VERSION")

DEADLINE = 5  # seconds: comm.deadline_seconds of jobs that lose somebody
START = 10  # and at least so long they may take to meet
MAX_SECONDS_TO_NAME = 5  # beyond the deadline, on a busy machine


def said(job):
    return [line for text in job.texts() for line in text.splitlines() if line.startswith("sluice:")]


class AnswersTest(HostsTest):
    ROWS = 32
    TOKENS = 24

    def setUp(self):
        super().setUp()
        self.input = self.write_rows("rows.jsonl", [
            {"custom_id": f"sum-{i}", "max_tokens": self.TOKENS, "ignore_eos": True,
             "prompt": f"Question: What is {i} plus {i * 7 % 13}?\nAnswer:"}
            for i in range(self.ROWS)])

    def arguments(self, name):
        return ["generate", "--device", "cpu", "--model", DEMO_MODEL, "--input", self.input, "--output",
                self.scratch / f"{name}.jsonl", "--report", self.scratch / f"{name}.json"]

    def show_share_of_link(self, report, ranks_of_host):
        """Prints what the hop from the first host carries beside what its link could: no claim about time."""
        sender = report["stages"][ranks_of_host - 1]
        seconds = sender["run"]["wall_seconds"]
        sent = sender["run"]["activities"]["send"]["bytes"]
        print(f"{len(report['stages'])} ranks, {ranks_of_host} on a host: {report['run']['tokens_per_second']:.0f} tokens/s; a hop carries "
              f"{sent / sender['run']['passes']:.0f} bytes a pass, {sent / seconds / 1e6:.2f} MB/s, "
              f"{sent / seconds / LINK_BYTES_PER_SECOND:.2%} of its link", flush=True)

    def test_two_and_four_hosts_give_the_tokens_of_one_process(self):
        alone = self.run_job(*self.arguments("alone"))
        self.assertEqual(alone.status, DONE, alone)
        self.assertNotIn("network:", alone.stderr)
        expected = self.records(self.scratch / "alone.jsonl")
        self.assertEqual(len(expected), self.ROWS)
        hosts = self.make_hosts(4)
        for count, ranks_of_host in ((2, 1), (4, 1), (2, 2)):
            with self.subTest(hosts=count, ranks_of_host=ranks_of_host):
                name = f"over-{count}-{ranks_of_host}"
                ended = self.run_over(hosts[:count], *self.arguments(name), ranks_of_host=ranks_of_host)
                self.assertEqual(ended.status, DONE, ended)
                self.assertEqual(self.records(self.scratch / f"{name}.jsonl"), expected)
                where = ", ".join(f"{host.name} eth0 {host.address}" for host in hosts[:count])
                self.assertIn(f"network: {where}", ended.stdout + ended.stderr)
                report = self.read_json(self.scratch / f"{name}.json")
                self.assertEqual([(stage["host"], stage["interfaces"]) for stage in report["stages"]],
                                 [(host.name, [f"eth0 {host.address}"]) for host in hosts[:count]
                                  for _ in range(ranks_of_host)])
                self.show_share_of_link(report, ranks_of_host)


class LossTest(HostsTest):
    """Of a job over two hosts that would run for minutes."""

    def start_job(self, hosts, deadline=DEADLINE, start=None, **options):
        rows = self.write_rows("rows.jsonl", [
            {"custom_id": f"{i}", "prompt": f"Question: What is {i} plus 2?", "max_tokens": 200,
             "ignore_eos": True} for i in range(20000)])
        self.output = self.scratch / "output.jsonl"
        config = self.write("config.yaml", f"comm: {{deadline_seconds: {deadline}}}\n")
        job = (start or self.start_over)(hosts, "generate", "--device", "cpu", "--quiet", "--config", config, "--model",
                                         DEMO_MODEL, "--input", rows, "--output", self.output, **options)
        job.wait_for_lines(self.output, 1)
        return job

    def wait_for_sentence(self, job, seconds):
        """What the program has said; mpirun may go on for long."""
        until = time.monotonic() + seconds
        while not said(job):
            self.assertLess(time.monotonic(), until, job.texts())
            time.sleep(0.02)
        return said(job)

    def assert_named(self, sentences):
        self.assertEqual(len(sentences), 1, sentences)
        self.assertRegex(sentences[0], rf"^sluice: rank 1 \(host h2, pid \d+\) has been silent for {DEADLINE} s; "
                                       r"its last step was: .+\. The job ends; run it again with --resume\.$")

    def test_a_link_that_is_down_is_named_within_the_deadline(self):
        hosts = self.make_hosts(2)
        job = self.start_job(hosts)
        hosts[1].set_link("down")
        self.assert_named(self.wait_for_sentence(job, DEADLINE + MAX_SECONDS_TO_NAME))
        # mpirun waits for its helper on the other host until the link is back.
        hosts[1].set_link("up")
        self.assertEqual(job.end().status, PEER_LOST)

    def test_a_host_that_loses_its_power_is_named_within_the_deadline(self):
        hosts = self.make_hosts(2)
        job = self.start_job(hosts)
        hosts[1].set_link("down")
        hosts[1].kill(all_processes=True)
        self.assert_named(self.wait_for_sentence(job, DEADLINE + MAX_SECONDS_TO_NAME))

    def test_launch_goes_on_after_a_link_was_down(self):
        hosts = self.make_hosts(2)
        job = self.start_job(hosts, start=self.start_launch)
        hosts[1].set_link("down")
        job.wait_for_text("ending mpirun")
        hosts[1].set_link("up")
        job.wait_for_text("starting again")
        lines = self.output.read_bytes().count(b"\n")
        job.wait_for_lines(self.output, lines + 10)
        self.assertEqual([line for line in said(job) if "restart" in line],
                         ["sluice: launch: a rank was lost (status 5); starting again in 1 s (restart 1 of 10)"])

    def test_an_outage_of_less_than_half_the_deadline_is_survived(self):
        hosts = self.make_hosts(2)
        job = self.start_job(hosts, deadline=12)
        hosts[1].set_link("down")
        time.sleep(2)  # the length of the outage is what is tested
        hosts[1].set_link("up")
        lines = self.output.read_bytes().count(b"\n")
        job.wait_for_lines(self.output, lines + 10)
        self.assertEqual(said(job), [])

    def test_a_host_whose_processes_are_killed_ends_the_job(self):
        hosts = self.make_hosts(2)
        job = self.start_job(hosts)
        hosts[1].kill(all_processes=True)
        ended = job.end()
        self.assertNotEqual(ended.status, DONE)
        self.assertIn("h2", ended.stderr)  # by mpirun
        self.assertEqual(len(ended.said()), 1, ended)
        self.assertRegex(ended.said()[0], r"rank 1 \(host h2, pid \d+\)")


class InterfaceTest(HostsTest):
    def ask(self, hosts, settings, **options):
        config = self.write("config.yaml", f"comm: {{deadline_seconds: {DEADLINE}}}\n")
        return self.run_over(hosts, "generate", "--device", "cpu", "--config", config, "--model", DEMO_MODEL,
                             "--max-new-tokens", 3, "--prompt", "Question: What is the capital of France?\nAnswer:",
                             settings=settings, **options)

    def assert_said(self, ended, status, *patterns):
        self.assertEqual(ended.status, status, ended)
        self.assert_no_crash(ended)
        self.assertEqual(len(ended.said()), 1, ended)
        for pattern in patterns:
            self.assertRegex(ended.said()[0], pattern)

    def test_an_interface_that_no_host_has_is_refused(self):
        ended = self.ask(self.make_hosts(2), {"btl_tcp_if_include": "nosuch0"})
        self.assert_said(ended, USAGE, "OMPI_MCA_btl_tcp_if_include is 'nosuch0', which host h1 does not have",
                         r"it has eth0 10\.77\.0\.1/24")

    def test_an_interface_that_one_host_lacks_is_refused_by_that_host(self):
        hosts = self.make_hosts(3)
        hosts[0].add_dead_end("eth1", "10.78.0.1")
        hosts[1].add_dead_end("eth1", "10.78.0.2")
        ended = self.ask(hosts, {"btl_tcp_if_include": "eth1"})
        self.assert_said(ended, USAGE, "^sluice: rank 2: OMPI_MCA_btl_tcp_if_include is 'eth1', which host h3 does")

    def test_an_interface_that_leads_to_no_other_host_is_named(self):
        hosts = self.make_hosts(2)
        for number, host in enumerate(hosts):
            host.add_dead_end("eth1", f"10.78.0.{number + 1}")
        ended = self.ask(hosts, {"btl_tcp_if_include": "eth1"})
        self.assert_said(ended, PEER_LOST, f"have not reached each other for {START} s",
                         "OMPI_MCA_btl_tcp_if_include is 'eth1'", r"host h1 has .*eth0 10\.77\.0\.1/24")
        ended = self.ask(hosts, {"btl_tcp_if_include": "10.77.0.0/24", "oob_tcp_if_include": "10.77.0.0/24"})
        self.assertEqual(ended.status, DONE, ended)
        self.assertIn("network: h1 eth0 10.77.0.1, h2 eth0 10.77.0.2", ended.stdout + ended.stderr)

    def test_bridges_with_one_address_on_all_hosts_are_named(self):
        hosts = self.make_hosts(2)
        for host in hosts:
            host.add_dead_end("docker0", "172.17.0.1")
        ended = self.ask(hosts, {})
        self.assert_said(ended, PEER_LOST, "OMPI_MCA_btl_tcp_if_include is not set", r"docker0 172\.17\.0\.1/24")

    def test_programs_of_different_versions_are_refused(self):
        if OTHER_VERSION is None:
            self.skipTest("no program of another version was built")
        arguments = ["generate", "--device", "cpu", "--model", DEMO_MODEL, "--max-new-tokens", 3, "--prompt", "Hello"]
        ended = self.run_over(self.make_hosts(2), *arguments, others=(OTHER_VERSION, *arguments))
        self.assert_said(ended, USAGE, "The ranks of this job differ", "start every rank with the same program")
        self.assertRegex(ended.stdout + ended.stderr,
                         r"version: (\S+) on rank 0 \(h1\); \1-other on rank 1 \(h2\)")


if __name__ == "__main__":
    unittest.main()
