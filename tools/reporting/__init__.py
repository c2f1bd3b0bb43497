"""Parts of the evaluation report: reading an evaluation, drawing its pictures and charts, filling the page."""
