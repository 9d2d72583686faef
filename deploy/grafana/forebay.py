#!/usr/bin/env python3
"""Prints the Grafana dashboard of Forebay. forebay.json is its output:

    deploy/grafana/forebay.py > deploy/grafana/forebay.json

docs/monitoring.md says how to import it. CI runs every query of it against a real Prometheus (.ci/dashboard.py).
"""

import json

# The widest line of the file. A value that fits into one line is written in one.
WIDTH = 160
# The dashboard is 24 units wide.
COLUMNS = 24
HEIGHT = 8

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
# Selects the chosen processes.
CHOSEN = 'job=~"$job",instance=~"$instance"'


def metric(name, labels=""):
    """Returns a selector of the chosen processes' series of a metric."""
    return f"{name}{{{','.join(filter(None, [CHOSEN, labels]))}}}"


def rate(name, labels=""):
    return f"rate({metric(name, labels)}[$__rate_interval])"


def grow(name, labels=""):
    return f"increase({metric(name, labels)}[$__rate_interval])"


def by(labels, expression, function="sum"):
    return f"{function} by ({labels}) ({expression})"


def quantile(share, name, labels="", by_labels="le"):
    return f"histogram_quantile({share}, {by(by_labels, rate(f'{name}_bucket', labels))})"


def mean(name, label):
    return f"{by(label, rate(f'{name}_sum'))} / {by(label, rate(f'{name}_count'))}"


def quantiles(name, labels=""):
    """Returns the queries of the usual three quantiles of a histogram."""
    return [(quantile(share, name, labels), legend) for share, legend in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))]


def parts(share):
    """Returns the queries of a quantile of each part of a request's time."""
    names = {
        "tokenize": "forebay_request_tokenize_seconds",
        "queue": "forebay_request_queue_seconds",
        "device": "forebay_model_batch_seconds",
        "delivery": "forebay_request_delivery_seconds",
    }
    return [(quantile(share, name), legend) for legend, name in names.items()]


def panel(title, unit, queries, description, kind="timeseries", stacked=False, most=None):
    """Returns a panel; `queries` are pairs of an expression and a legend."""
    defaults = {"unit": unit, "min": 0}
    if most is not None:
        defaults["max"] = most
    if kind == "timeseries":
        defaults["custom"] = {"lineWidth": 1, "fillOpacity": 30 if stacked else 8, "showPoints": "never"}
        if stacked:
            defaults["custom"]["stacking"] = {"mode": "normal", "group": "A"}
        options = {"legend": {"displayMode": "list", "placement": "bottom", "showLegend": True}, "tooltip": {"mode": "multi", "sort": "desc"}}
        extra = {"range": True}
    elif kind == "heatmap":
        defaults = {}
        options = {
            "calculate": False,
            "cellGap": 1,
            "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64},
            "yAxis": {"unit": unit},
            "tooltip": {"mode": "single", "yHistogram": False},
        }
        extra = {"range": True, "format": "heatmap"}
    else:
        defaults = {}
        options = {"showHeader": True}
        extra = {"instant": True, "range": False, "format": "table"}
    made = {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": [
            {"refId": chr(ord("A") + number), "expr": expression, "legendFormat": legend, **extra}
            for number, (expression, legend) in enumerate(queries)
        ],
    }
    if kind == "table":
        hidden = ("Time", "Value", "__name__")
        made["transformations"] = [{"id": "organize", "options": {"excludeByName": {name: True for name in hidden}}}]
    return made


REQUESTS = "forebay_requests_total"
BATCH_SECONDS = "forebay_model_batch_seconds"
FAILED = 'outcome!="result"'

SERVICE = [
    [
        panel(
            "Requests",
            "reqps",
            [(by("outcome", rate(REQUESTS)), "{{outcome}}")],
            "Answers a second: results, error replies, dead letters, and requests that stopped the pipeline.",
            stacked=True,
        ),
        panel(
            "Failed requests by code",
            "reqps",
            [(by("code", rate(REQUESTS, FAILED)), "{{code}}")],
            "Requests that failed, by error code. docs/errors.md says what each code means.",
            stacked=True,
        ),
        panel(
            "Error share",
            "percentunit",
            [(f"(sum({rate(REQUESTS, FAILED)}) or vector(0)) / sum({rate(REQUESTS)})", "failed")],
            "The share of requests that failed, whatever the reason.",
            most=1,
        ),
        panel(
            "Request time",
            "s",
            quantiles("forebay_request_seconds"),
            "From the record's timestamp (Kafka) or the request's arrival (HTTP) to the confirmed answer. With Kafka it includes the time in the topic.",
        ),
    ],
    [
        panel(
            f"Where the time goes, {name}",
            "s",
            parts(share),
            f"The {name} of each part: tokenising the text, waiting for a batch, the batch on the device, delivery of the answer. "
            "Quantiles of parts do not add up to the quantile of the whole.",
        )
        for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
    ],
    [
        panel(
            "Inside the pipeline",
            "short",
            [(by("step", metric("forebay_step_inside")), "{{step}}")],
            "Events that came to a step and of which nothing has become yet. The step that holds most of them is the slowest.",
            stacked=True,
        ),
        panel(
            "Waiting in queues",
            "short",
            [(by("step", metric("forebay_step_waiting")), "{{step}}")],
            "Events in the queues of steps.",
            stacked=True,
        ),
        panel(
            "Failures by step",
            "ops",
            [(by("step, code", rate("forebay_step_failed_total")), "{{step}} {{code}}")],
            "Events that failed at a step, by error code. An event that is tried again counts each time.",
            stacked=True,
        ),
        panel(
            "Processes",
            "short",
            [(by("version", metric("forebay_build_info"), "count"), "{{version}}")],
            "Processes that answer Prometheus, by the version of Forebay.",
            stacked=True,
        ),
    ],
]

PARTITION = "topic, group, partition"
TRANSACTION_SECONDS = "forebay_kafka_transaction_seconds"

KAFKA = [
    [
        panel(
            "Lag by partition",
            "short",
            [(by(PARTITION, metric("forebay_kafka_lag"), "max"), "{{topic}}[{{partition}}] {{group}}")],
            "Offsets between the committed one and the end of the partition. Markers of transactions count, so a lag of a few may stay while nothing waits.",
        ),
        panel(
            "Backlog",
            "s",
            [(by("job", metric("forebay_backlog_seconds"), "max"), "{{job}}")],
            "How long the requests that are there would take at the present rate; the largest of a job's processes.",
        ),
        panel(
            "Oldest unresolved record",
            "s",
            [(by(PARTITION, metric("forebay_kafka_oldest_unresolved_seconds"), "max"), "{{topic}}[{{partition}}] {{group}}")],
            "Age of the oldest record of a partition that was read and has no answer. Nothing behind it is committed.",
        ),
    ],
    [
        panel(
            "Records read",
            "ops",
            [(by("topic", rate("forebay_kafka_records_total")), "{{topic}}")],
            "Records a second that the source has read.",
        ),
        panel(
            "Offsets written and committed",
            "ops",
            [
                (by("topic, group", f"deriv({metric('forebay_kafka_end_offset')}[$__rate_interval])"), "written {{topic}} {{group}}"),
                (by("topic, group", f"deriv({metric('forebay_kafka_committed_offset')}[$__rate_interval])"), "committed {{topic}} {{group}}"),
            ],
            "Growth of the end offsets and of the committed offsets, a second. While less is committed than written, the lag grows.",
        ),
        panel(
            "Commits",
            "ops",
            [(by("topic, outcome", rate("forebay_kafka_commits_total")), "{{topic}} {{outcome}}")],
            "Commits of offsets a second, by outcome. With exactly-once delivery, transactions commit the offsets.",
        ),
        panel(
            "Rebalances",
            "short",
            [(by("topic", grow("forebay_kafka_rebalances_total")), "{{topic}}")],
            "Rebalances of the group in each interval. They belong to starts and stops of members; at other times, look for members that the group has lost.",
        ),
    ],
    [
        panel(
            "Partitions",
            "short",
            [
                (by("instance, topic", metric("forebay_kafka_assigned_partitions")), "assigned {{topic}} {{instance}}"),
                (by("instance, topic", metric("forebay_kafka_paused_partitions")), "paused {{topic}} {{instance}}"),
                (by("instance, topic", metric("forebay_kafka_halted_partitions")), "halted {{topic}} {{instance}}"),
            ],
            "Partitions of each process. Paused ones are not fetched until requests in flight are answered; halted ones are read no further until a restart.",
        ),
        panel(
            "Records in flight",
            "short",
            [
                (by("topic, group", metric("forebay_kafka_in_flight_records")), "in flight {{topic}} {{group}}"),
                (by("topic, group", metric("forebay_kafka_held_records")), "held {{topic}} {{group}}"),
            ],
            "Records that are read and not settled, against `max_in_flight`. Held ones failed without an answer; nothing behind them is committed.",
        ),
        panel(
            "Bytes in flight",
            "bytes",
            [(by("topic, group", metric("forebay_kafka_in_flight_bytes")), "{{topic}} {{group}}")],
            "Bytes of the records in flight, against `max_in_flight_bytes`.",
        ),
        panel(
            "Dead letters",
            "ops",
            [(by("topic", rate("forebay_kafka_dead_letters_total")), "{{topic}}")],
            "Requests a second that were written to the dead letter topic. `forebay replay` sends them again.",
        ),
    ],
    [
        panel(
            "Transactions",
            "ops",
            [(by("topic, outcome", rate("forebay_kafka_transactions_total")), "{{topic}} {{outcome}}")],
            "Transactions a second (exactly-once delivery): committed, aborted, and given up because a call did not return.",
            stacked=True,
        ),
        panel(
            "Transaction time",
            "s",
            quantiles(TRANSACTION_SECONDS),
            "Duration of a transaction.",
        ),
    ],
]

SIZE = "forebay_batch_size"
PADDING = by("step", rate("forebay_batch_padding_total"))
ELEMENTS = by("step", rate("forebay_batch_elements_total"))

BATCHING = [
    [
        panel(
            "Batch size, mean",
            "short",
            [(mean(SIZE, "step"), "{{step}}")],
            "Members of a batch. It grows with the load, up to the window's `max_size`.",
        ),
        panel(
            "Batch size, distribution",
            "short",
            [(by("le", grow(f"{SIZE}_bucket")), "{{le}}")],
            "Number of batches by their size, over all windows.",
            kind="heatmap",
        ),
        panel(
            "Batches by reason",
            "ops",
            [(by("step, reason", rate("forebay_batches_total")), "{{step}} {{reason}}")],
            "Batches a second by the reason why they left: `idle` means that the device was free, `size` that the batch was full. docs/metrics.md has all reasons.",
            stacked=True,
        ),
    ],
    [
        panel(
            "Wait of the oldest member",
            "s",
            quantiles("forebay_batch_wait_seconds"),
            "How long the oldest member of a batch waited in the window.",
        ),
        panel(
            "Padding share",
            "percentunit",
            [(f"{PADDING} / ({PADDING} + {ELEMENTS})", "{{step}}")],
            "Padding among the tokens that the device computed. The CPU needs no padding.",
            most=1,
        ),
        panel(
            "Predicted and actual time of a batch",
            "s",
            [
                (mean("forebay_batch_predicted_seconds", "step"), "predicted {{step}}"),
                (mean(BATCH_SECONDS, "model"), "actual {{model}}"),
            ],
            "Mean times of a batch. If they differ for long, batches are not the ones that take the least time.",
        ),
    ],
]

DEVICE = [
    [
        panel(
            "Busy share",
            "percentunit",
            [(by("instance, model", rate(f"{BATCH_SECONDS}_sum")), "{{model}} {{instance}}")],
            "Share of time in which the device computed; with several replicas, their sum. Near 100 % the device limits the throughput.",
        ),
        panel(
            "Inputs",
            "ops",
            [(by("model", rate("forebay_model_inputs_total")), "{{model}}")],
            "Inputs a second that the models were given.",
        ),
        panel(
            "Device time per input",
            "s",
            [(f"{by('model', rate(f'{BATCH_SECONDS}_sum'))} / {by('model', rate('forebay_model_inputs_total'))}", "{{model}}")],
            "Mean device time for one input. It falls when batches grow.",
        ),
    ],
    [
        panel(
            "Warm-up",
            "s",
            [(by("instance, model", metric("forebay_model_warm_up_seconds"), "max"), "{{model}} {{instance}}")],
            "How long loading and warming up the model took.",
        ),
        panel(
            "Rebuilds",
            "short",
            [(by("instance, model", grow("forebay_model_rebuilds_total")), "{{model}} {{instance}}")],
            "How often the model was loaded again after a panic or a lost device, in each interval.",
        ),
        panel(
            "Models",
            "",
            [(by("instance, model, description", metric("forebay_model_info")), "")],
            "The models and their devices.",
            kind="table",
        ),
    ],
]


def variable(name, label, query):
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": SOURCE,
        "definition": query,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def layout(rows):
    """Returns the panels of all rows, with their ids and places."""
    placed, top = [], 0

    def place(made, left, width, height):
        made = {"id": len(placed) + 1, **made}
        made["gridPos"] = {"x": left, "y": top, "w": width, "h": height}
        placed.append(made)

    for title, lines in rows:
        place({"type": "row", "title": title, "collapsed": False, "panels": []}, 0, COLUMNS, 1)
        top += 1
        for line in lines:
            width = COLUMNS // len(line)
            for number, made in enumerate(line):
                place(made, number * width, width, HEIGHT)
            top += HEIGHT
    return placed


DASHBOARD = {
    "title": "Forebay",
    "description": "Requests, Kafka, batches and devices of Forebay's pipelines",
    "uid": "forebay",
    "id": None,
    "version": 1,
    "schemaVersion": 41,
    "tags": ["forebay"],
    "timezone": "browser",
    "editable": True,
    "graphTooltip": 1,
    "refresh": "10s",
    "time": {"from": "now-1h", "to": "now"},
    "annotations": {"list": []},
    "links": [],
    "templating": {
        "list": [
            {"type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus", "refresh": 1, "current": {}},
            variable("job", "Job", "label_values(forebay_build_info, job)"),
            variable("instance", "Instance", 'label_values(forebay_build_info{job=~"$job"}, instance)'),
        ]
    },
    "panels": layout([("Service", SERVICE), ("Kafka", KAFKA), ("Batching", BATCHING), ("Device", DEVICE)]),
}


def text(value, indent=0):
    """Returns JSON in which a value has one line if it fits, and otherwise one for each member."""
    line = json.dumps(value, ensure_ascii=False)
    if len(line) + indent <= WIDTH or not isinstance(value, (dict, list)) or not value:
        return line
    inner = " " * (indent + 2)
    if isinstance(value, dict):
        members = [f"{json.dumps(key)}: {text(member, indent + 2)}" for key, member in value.items()]
        return "{\n" + ",\n".join(inner + member for member in members) + "\n" + " " * indent + "}"
    return "[\n" + ",\n".join(inner + text(member, indent + 2) for member in value) + "\n" + " " * indent + "]"


print(text(DASHBOARD))
