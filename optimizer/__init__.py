"""What to deploy: expert popularity, the cost model (Eq. 3-11), and solvers of the deployment problem.

- `optimizer.solvers.solve(problem, solver)`: a deployment problem in, an evaluated deployment plan out.
- `optimizer.evaluation.evaluate(problem, plan)`: cost, latency and violations of any plan.
- `optimizer.exact.front(problem)`: the whole cost-latency curve; `Infeasible` carries the least latency.
- `optimizer.popularity.predictor(name)`: predict the popularity that a problem is made with.

Method: Liu, Wang, Wu, Optimizing Distributed Deployment of Mixture-of-Experts Model Inference in Serverless
Computing, INFOCOM 2025.
"""

from optimizer.evaluation import Evaluation, Solution, evaluate
from optimizer.exact import Infeasible, front
from optimizer.miqcp import NoIncumbent
from optimizer.solvers import SOLVERS, solve

__all__ = ["SOLVERS", "Evaluation", "Infeasible", "NoIncumbent", "Solution", "evaluate", "front", "solve"]
